"""The last words of a command: a short table for people, the same as JSON for programs.

What earlier recipes of the run left of other targets and devices is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekd import plain
from edgekd.atomic import as_written, read_json
from edgekd.detectors.families import family
from edgekd.measure.paired_gain import paired_gain
from edgekd.measure.withheld import without_figures
from edgekd.recipe.yaml_text import read_mapping
from edgekd.report import throughput
from edgekd.report.artifacts import device_names, target_names
from edgekd.report.lanes import words as _inference
from edgekd.report.numbers import gain_words
from edgekd.run_dir import LOCKED_RECIPE


def show(run: Path, stage: str) -> tuple[Any, str]:
    """(result, text) of a finished stage, read from its files."""
    with as_written(run):
        return _SHOW.get(stage, _report)(run)


def _student(run: Path) -> tuple[Any, str]:
    recipe = _recipe(run)
    names = _in_torch(recipe)
    paths = {name: run / _file_of(name) for name in names}
    models = {name: read_json(path) for name, path in paths.items() if path.is_file()}
    lines = [
        f"{name:<11} {content['name']:<10} AP {content['ap']:.3f}  AP50 {content['ap50']:.3f}"
        for name, content in models.items()
    ]
    if _recipe(run).get("control") and {"control", "student"} <= models.keys():
        models["gain"] = _gain(run, models)
        lines.append(f"gain        {gain_words(models['gain'])} on val")
    return models, plain.lines([*lines, f"student weights: {run / 'student' / _weights_of(recipe)}"])


def _gain(run: Path, models: Mapping[str, Any]) -> dict[str, Any]:
    """Over the recipe's seeds; of one it has no interval."""
    if _recipe(run).get("seeds"):
        found: dict[str, Any] = read_json(run / "seeds.json")["gain"]
        return found
    return asdict(paired_gain([models["student"]["ap"]], [models["control"]["ap"]]))


def _export(run: Path) -> tuple[Any, str]:
    rows = [
        {"target": path.parent.name, **read_json(path), "folder": str(path.parent)}
        for path in sorted(run.glob("export/*/parity.json"))
        if path.parent.name in target_names(_recipe(run))
    ]
    lines = []
    for row in rows:
        found = f"max |score - torch| {row['max_abs_score']:.1e}" if row["images"] else f"not compared: {row['reason']}"
        lines.append(f"{row['target']:<16} {row['folder']}  {found}")
    return rows, plain.lines(lines)


def _validate(run: Path) -> tuple[Any, str]:
    rows = _measured(run, "validate", "model")
    lines = [f"{row['model'] + '@' + row['device']:<24} {_accuracy(row)}" for row in rows]
    return rows, plain.lines(lines)


def _profile(run: Path) -> tuple[Any, str]:
    found = _measured(run, "profile", "target")
    rows = [{**(row if row["valid"] else without_figures(row)), "throughput": throughput.entries(row)} for row in found]
    lines = []
    for row in rows:
        words = [*_latencies(row), *(throughput.words(one) for one in row["throughput"])]
        lines += [f"{row['target'] + '@' + row['device']:<24} {one}" for one in words]
    return rows, plain.lines(lines)


def _latencies(row: dict[str, Any]) -> Iterator[str]:
    """Of one artifact on one device: by timing programs, then end to end."""
    if not row["valid"]:
        yield f"INVALID: {'; '.join(row['invalid_reasons'])}"
        return
    yield from (_inference(lane) for lane in row.get("lanes") or [])
    if whole := row["latency_ms"].get("end_to_end"):
        known = [name for name in ("p50", "p90", "p95", "p99") if whole[name] is not None]
        yield f"{'  '.join(f'{name} {whole[name]:.2f}' for name in known)} ms end to end"
    yield from _notes(row)


def _notes(measured: Mapping[str, Any]) -> Iterator[str]:
    """What has to be known of the figures, wherever these are shown."""
    yield from (f"note: {note}" for note in measured.get("notes") or ())


def show_verdict(verdict: Mapping[str, Any]) -> tuple[Any, str]:
    """(result, text) of a `verdict.json`."""
    return verdict, plain.lines([f"gate: {verdict['status']}", *(f"  {reason}" for reason in verdict["reasons"])])


def _gate(run: Path) -> tuple[Any, str]:
    return show_verdict(read_json(run / "verdict.json"))


def _report(run: Path) -> tuple[Any, str]:
    report = read_json(run / "report.json")
    lines = []
    for name in ("teacher", "control", "student"):
        if (report.get(name) or {}).get("ap") is not None:
            lines.append(f"{name:<10} AP {report[name]['ap']:.3f}")
    for artifact in report["artifacts"]:
        latency = artifact.get("latency_ms") or {}
        p50, p90 = (("-" if latency.get(key) is None else f"{latency[key]:.2f} ms") for key in ("p50", "p90"))
        ap = "-" if artifact["ap"] is None else f"{artifact['ap']:.3f}"
        size = "-" if artifact["size_bytes"] is None else f"{artifact['size_bytes'] / 1e6:.2f} MB"
        name = f"{artifact['target']}@{artifact['device'] or '-'}"
        ap = f"accuracy: {artifact['accuracy']}" if artifact.get("accuracy") else f"AP {ap}"
        time = f"median {p50}  p90 {p90}"
        if artifact["valid"] is False:
            time = f"latency INVALID: {'; '.join(artifact['invalid_reasons'])} "
        lines.append(f"{name:<24} {ap}  {time}  {size}")
        lines += [f"{name:<24} {note}" for note in _notes(artifact)]
        lines += [f"{name:<24} {_inference(lane)}" for lane in artifact.get("lanes") or []]
        lines += [f"{name:<24} {throughput.words(one)}" for one in artifact.get("throughput") or []]
    verdict = report["verdict"]
    if verdict and verdict.get("status"):
        lines += [f"gate: {verdict['status']}", *(f"  {reason}" for reason in verdict["reasons"])]
    return report, plain.lines([*lines, f"report: {run / 'report.html'}"])


def _accuracy(row: dict[str, Any]) -> str:
    if row["ap"] is None:
        return f"accuracy: {row['accuracy']}: {row['reason']}"
    return f"AP {row['ap']:.4f}  AP50 {row['ap50']:.4f}"


def _measured(run: Path, folder: str, key: str) -> list[dict[str, Any]]:
    """Rows of the recipe's targets on its devices, and of the models in torch on this machine."""
    recipe = _recipe(run)
    models, devices = {*target_names(recipe), *_in_torch(recipe)}, {*device_names(recipe), "host"}
    rows = [read_json(path) for path in sorted(run.glob(f"{folder}/*.json"))]
    return [row for row in rows if row[key] in models and row["device"] in devices]


def _in_torch(recipe: dict[str, Any]) -> list[str]:
    """Models that are measured in torch."""
    trained_on = ["student_qat"] if recipe.get("quantize", {}).get("mode") == "qat" else []
    further = [f"teacher.{name}" for key in ("teachers", "ensembles") for name in recipe.get(key) or ()]
    return ["teacher", *further, "control", "student", *trained_on]


def _file_of(model: str) -> str:
    """Where the stage of a model that is measured in torch leaves its AP."""
    kind, _, name = model.partition(".")
    return f"teacher/{name or kind}.json" if kind == "teacher" else f"{model}/metrics.json"


def _weights_of(recipe: dict[str, Any]) -> str:
    return family(recipe["student"]["family"]).student_files[0]


def _recipe(run: Path) -> dict[str, Any]:
    return read_mapping(run / LOCKED_RECIPE)


def _knowledge(run: Path) -> tuple[Any, str]:
    facts = read_json(run / "knowledge.json")
    return facts, plain.lines([f"knowledge: {facts['told']}"])


def _prepare(run: Path) -> tuple[Any, str]:
    """Per method, how much was absorbed, and its file."""
    rows, lines = [], []
    for path in sorted(run.glob("prepare/*/prepared.safetensors")):
        metrics = path.parent / "metrics.json"
        figures = read_json(metrics) if metrics.is_file() else {"ap": None}
        rows.append({"method": path.parent.name, **figures, "file": str(path)})
        known = {"AP": figures["ap"], "teacher": figures.get("teacher_ap")}
        absorbed = "".join(f"{name} {value:.3f}  " for name, value in known.items() if value is not None)
        lines.append(f"{path.parent.name:<11} {absorbed}{path}")
    return rows, plain.lines(lines)


_SHOW = {
    "prepare": _prepare,
    "knowledge": _knowledge,
    "student_qat": _student,
    "export": _export,
    "validate": _validate,
    "profile": _profile,
    "gate": _gate,
}
