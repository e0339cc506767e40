"""What there is: targets and devices, as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

from edgekd import plugins
from edgekd.agent.protocol import AgentError
from edgekd.agent.runtimes import runtime_class, runtime_names
from edgekd.devices import catalog, transports
from edgekd.devices.contract import DeviceSpec
from edgekd.errors import InputError
from edgekd.export.contract import step
from edgekd.export.targets import load_target
from edgekd.recipe.lookup import available

Read = TypeVar("Read")


def list_targets() -> list[dict[str, Any]]:
    """One row per YAML file in `export/`: what it is, and whether this machine can make it and run it.

    `untested` has for each step a word of the place -> what was never executed there, as far as the code says.
    """
    rows = []
    for name, spec in _read("export", lambda name: load_target(name, {}, name)):
        steps = [step(one) for one in spec.steps]
        lacking = [reason for one in steps if (reason := one.missing())]
        rows.append({
            "target": name, "runtime": spec.runtime, "precision": spec.precision, "steps": list(spec.steps),
            "cannot_make": lacking, "cannot_run": _cannot_run(spec.runtime),
            "untested": {one.name: dict(one.untested) for one in steps if one.untested},
        })  # fmt: skip
    return rows


def shown_targets(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """A table for people, and below it, once each, what this machine cannot make or run, and what was executed where.

    Args:
        rows: of `evidence.listed.targets`.
    """
    table = [
        {
            **{key: row[key] for key in ("target", "runtime")},
            "steps": " > ".join(row["steps"]),
            "make": "no" if row["cannot_make"] else "yes",
            "run": "no" if row["cannot_run"] else "yes",
            "tested": "partly" if row["untested"] else "yes",
        }
        for row in rows
    ]
    whose: dict[str, list[str]] = {}
    for row in rows:
        for key, start in (
            ("cannot_make", "cannot be made here"),
            ("cannot_run", "cannot run here"),
            ("untested", "untested"),
            ("executed", "executed"),
        ):
            for text in row[key]:
                whose.setdefault(f"{start}: {text}", []).append(row["target"])
    ran = dict.fromkeys(f"{row['runtime']}: executed in {text}" for row in rows for text in row["providers"])
    return table, [*(f"{', '.join(names)}: {text}" for text, names in whose.items()), *ran]


def _cannot_run(runtime: str) -> list[str]:
    if runtime not in runtime_names():
        return [f"the agent has no runtime for {runtime}"]
    try:
        runtime_class(runtime)
    except AgentError as error:
        return [error.message]
    return []


def list_devices() -> list[dict[str, Any]]:
    """One row per YAML file in `devices/`."""
    return [
        {
            "device": spec.name,
            "transport": spec.transport,
            "where": _where(spec),
            "runtimes": list(spec.runtimes),
        }
        for _, spec in _read("devices", catalog.load)
    ]


def _read(kind: Literal["export", "devices"], load: Callable[[str], Read]) -> Iterator[tuple[str, Read]]:
    """Every file of a kind, by name. A faulty one of another package is told and left out.

    Raises:
        InputError: a faulty one of the user's.
    """
    theirs = plugins.folders(kind)
    for name, path in sorted(available(kind).items()):
        try:
            yield name, load(name)
        except InputError as error:
            if not any(path.is_relative_to(folder) for folder in theirs):
                raise
            plugins.left_out(f"{path.name} of package {path.parent.parent.name}", error)


def _where(spec: DeviceSpec) -> str:
    kind = transports.transport(spec.transport)
    if kind.name not in transports.BUILT_IN:
        return str(spec.options.get(kind.address or "", "its transport knows"))
    return {"local": "here", "ssh": spec.ssh.host or spec.name, "adb": spec.adb.serial or "the only one"}[kind.name]


def shown_devices(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `evidence.listed.devices`, for people."""
    return [
        {
            **row,
            "runtimes": ", ".join(row["runtimes"]),
            "executed": "; ".join(row["executed"]) or ("here" if row["transport"] == "local" else "never"),
        }
        for row in rows
    ]
