"""The code of a row: which files it is, and whether they are still what they were when the row was shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import edgekd
from edgekd.atomic import sha256_file
from edgekd.evidence.imports import reached
from edgekd.export.contract import TargetSpec, step
from edgekd.recipe.lookup import available

ROOT = Path(edgekd.__file__).parent
_AGENT = "edgekd.agent"


def hashes(patterns: Iterable[str]) -> dict[str, str]:
    """SHA-256 of every file that is meant, by its name in the source tree.

    Args:
        patterns: below the package (`training/engines/*.py`), or a built-in YAML file (`export/onnx-fp32.yaml`).
    """
    return {name: digest for pattern in patterns for name, digest in _matching(pattern)}


def changed(kept: Mapping[str, str]) -> list[str]:
    """Of files with their hashes, those that are others now, or gone."""
    return sorted(name for name, digest in kept.items() if _digest_of(name) != digest)


def of_target(spec: TargetSpec, *more: str) -> list[str]:
    """What makes and runs artifacts of a target: its file, its steps, its runtime in the agent, and what these import.

    Args:
        more: modules of further steps.
    """
    modules = [step(name).export.__module__ for name in spec.steps]
    return [f"export/{spec.name}.yaml", *reached((*modules, *more)), *of_runtime(spec.runtime)]


def of_runtime(name: str) -> list[str]:
    """What runs artifacts on a device, with what it imports; of a runtime that the agent lacks, what all share."""
    return reached((f"{_AGENT}.runtimes.{name}_runtime", f"{_AGENT}.session"))


def of_device(name: str, transport: str) -> list[str]:
    """What reaches a device."""
    remote = [] if transport == "local" else ["devices/remote.py", "devices/channel.py", "devices/store.py"]
    return [f"devices/{name}.yaml", f"devices/{transport}*.py", "devices/run_agent.py", "devices/stream.py", *remote]


@cache
def _matching(pattern: str) -> tuple[tuple[str, str], ...]:
    if pattern.endswith(".yaml"):
        digest = _digest_of(pattern)
        return ((pattern, digest),) if digest else ()
    found = sorted(path for path in ROOT.glob(pattern) if path.is_file())
    return tuple((path.relative_to(ROOT).as_posix(), sha256_file(path)) for path in found)


@cache
def _digest_of(name: str) -> str | None:
    if name.endswith(".yaml"):
        folder, _, file = name.partition("/")
        path = available("export" if folder == "export" else "devices").get(file.removesuffix(".yaml"))
    else:
        path = ROOT / name
    return sha256_file(path) if path is not None and path.is_file() else None
