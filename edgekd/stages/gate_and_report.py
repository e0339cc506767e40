"""Stages gate and report: budgets to a verdict, files to a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgekd.atomic import as_written, read_json, sha256_file, write_json
from edgekd.export.contract import SIDECAR_NAME
from edgekd.gate import baseline as releases
from edgekd.gate import detects
from edgekd.gate.facts import ArtifactFacts, Facts
from edgekd.gate.verdict import Check, Verdict, judge
from edgekd.measure.throughput import best
from edgekd.progress import say
from edgekd.run_dir import LOCKED_RECIPE, Written
from edgekd.stages import seeds
from edgekd.stages.baseline import of_run
from edgekd.stages.context import Context
from edgekd.stages.evidence import measured, require_sound
from edgekd.stages.on_device import pairs


def gate_stage(context: Context) -> None:
    """Judge the recipe's budgets, and keep the verdict."""
    require_sound(context)
    hashes = {str(path.relative_to(context.path)): sha256_file(path) for path in _measurements(context)}
    against = context.bound.gate.against
    release = releases.load(Path(against.store), against.baseline).model_dump(mode="json") if against else None
    inputs = {
        "gate": context.bound.gate.model_dump(), "control": context.bound.recipe.control, "files": hashes,
        "release": release,
    }  # fmt: skip

    def write() -> list[str]:
        write_json(context.path / "verdict.json", _judged(context))
        return ["verdict.json"]

    context.stage("gate", inputs, write)
    say(f"gate {context.bound.recipe.name}: {read_json(context.path / 'verdict.json')['status']}")


def what_if(context: Context) -> dict[str, Any]:
    """Judge by other budgets, and leave everything as it is; returns what `verdict.json` would hold."""
    require_sound(context)
    return _judged(context)


def _judged(context: Context) -> dict[str, Any]:
    with as_written(context.path):
        return _judge(context).as_json()


def report_stage(context: Context) -> None:
    """Build the report from the run's files and nothing else."""
    from edgekd.report.render import render

    report = context.bound.recipe.report

    def build() -> list[str]:
        render(context.path, images=report.images, examples=report.examples)
        return ["report.json", "report.html", "report.md"]

    done = {name: entry for name, entry in context.run.manifest["stages"].items() if name != "report"}
    _require_unedited(context)
    recipe_hash = sha256_file(context.path / LOCKED_RECIPE)
    context.stage("report", {"report": report.model_dump(), "recipe": recipe_hash, "stages": done}, build)


def _require_unedited(context: Context) -> None:
    """A report that is kept was made of files that are still what they were, as far as they are there.

    One that is made now looks at each file as it reads it.
    """
    if not context.run.is_intact("report"):
        return
    written = Written(context.path)
    for name in read_json(context.path / "report.json")["files"]:
        if (context.path / name).is_file():
            written.require(name, sha256_file(context.path / name))


def _measurements(context: Context) -> list[Path]:
    names = [f"{target.name}@{device.name}" for target, device in pairs(context)]
    found = [
        measured(context, f"{folder}/{name}", f"{folder}/{name}.json")
        for name in names
        for folder in ("validate", "profile")
    ]
    found += [measured(context, f"accuracy/{name}", f"{name}/metrics.json") for name in ("student", "control")]
    found += [measured(context, "seeds", seeds.FILE)] if context.bound.recipe.seeds else []
    return [path for path in found if path]


def _read(context: Context, stage: str, name: str) -> dict[str, Any] | None:
    """What a stage measured; None where it was not done."""
    path = measured(context, stage, name)
    return read_json(path) if path else None


def _judge(context: Context) -> Verdict:
    artifacts = []
    for target, device in pairs(context):
        name = f"{target.name}@{device.name}"
        accuracy, latency = (
            _read(context, f"{kind}/{name}", f"{kind}/{name}.json") for kind in ("validate", "profile")
        )
        artifacts.append(ArtifactFacts(
            target=target.name, device=device.name, ap=accuracy["ap"] if accuracy else None,
            p90_ms=_p90_ms(latency) if latency else None, inference_by=(latency or {}).get("tool"),
            no_ap=f"accuracy: not measured: {accuracy['reason']}" if accuracy and accuracy.get("reason") else None,
            latency_valid=latency["valid"] if latency else True,
            invalid_reasons=tuple(latency["invalid_reasons"]) if latency else (),
            per_class=accuracy["per_class"] if accuracy else None,
            memory_mb=latency["peak_memory_mb"] if latency else None,
            energy_mj=latency.get("energy_mj_per_inference") if latency else None,
            size_mb=_size_mb(context, target.name),
            notes=tuple((latency or {}).get("notes") or ()), **_loads(latency),
        ))  # fmt: skip
    student = _read(context, "accuracy/student", "student/metrics.json")
    control = _read(context, "accuracy/control", "control/metrics.json")
    over_seeds = _read(context, "seeds", seeds.FILE) if context.bound.recipe.seeds else None
    assert student is not None
    facts = Facts(
        student_ap=student["ap"], control_ap=control["ap"] if control and context.bound.recipe.control else None,
        per_class=student["per_class"], artifacts=tuple(artifacts), gain=(over_seeds or {}).get("gain"),
    )  # fmt: skip
    return judge(context.bound.gate, facts, [*detects.checks(context.bound.gate, facts), *_against(context)])


def _against(context: Context) -> Iterator[Check]:
    """Checks against a release."""
    against = context.bound.gate.against
    if against:
        release = releases.load(Path(against.store), against.baseline)
        now = of_run(context.path, "this run")
        yield from releases.checks(release, now, against.max_ap_loss, against.max_slowdown)


def _p90_ms(latency: Mapping[str, Any]) -> float | None:
    """End to end; of inference, where a timing program ran it alone; None where it keeps no samples."""
    figures = latency["latency_ms"]
    value: float | None = (figures.get("end_to_end") or figures.get("inference") or {}).get("p90")
    return value


def _loads(latency: Mapping[str, Any] | None) -> dict[str, Any]:
    """Throughput of the fastest load, what is wrong with others, and how far the processes lie apart."""
    entries = (latency or {}).get("throughput") or []
    fastest = best(entries) or {}
    problems = dict.fromkeys(reason for entry in entries for reason in entry["invalid_reasons"])
    apart = (latency or {}).get("spread") or {}
    return {
        "images_per_second": fastest.get("images_per_second"), "load_problems": tuple(problems),
        "load_notes": tuple(fastest.get("notes", ())),
        "spread": {
            "p90_ms": apart.get("p90"), "energy_mj": apart.get("p50"), "images_per_second": fastest.get("spread"),
        },
    }  # fmt: skip


def _size_mb(context: Context, target: str) -> float | None:
    sidecar, folder = _read(context, f"export/{target}", f"export/{target}/{SIDECAR_NAME}"), context.path / "export"
    return sum((folder / target / name).stat().st_size for name in sidecar["files"]) / 1e6 if sidecar else None
