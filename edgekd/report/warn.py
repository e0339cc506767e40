"""What a reader of a report must not overlook, in one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgekd.data.config import notices
from edgekd.distill.terms import DETECTION, SHARE_LIMITS
from edgekd.report.throughput import load

_SAME_AP = 0.001
_ROLES = ("teacher", "control", "student")


def warnings_of(report: Mapping[str, Any]) -> list[str]:
    """Warnings about the comparison, the loss terms, the artifacts and the data, most important first."""
    sources = (_comparison, _own_measurements, _first_steps, _all_steps, _artifacts, _data)
    return [warning for source in sources for warning in source(report)]


def comparison(teacher: float | None, control: float | None, student: float | None) -> Iterator[str]:
    """What is wrong between the AP of teacher, control and student; None is what there is not."""
    if teacher is not None and control is not None and teacher <= control:
        yield f"The teacher (AP {teacher:.3f}) is not better than the control (AP {control:.3f})."
    if teacher is not None and student is not None and teacher < student:
        yield f"The teacher (AP {teacher:.3f}) is worse than its student (AP {student:.3f})."
    if student is not None and control is not None and student <= control:
        yield f"The student (AP {student:.3f}) is not better than the control (AP {control:.3f})."


def _comparison(report: Mapping[str, Any]) -> Iterator[str]:
    yield from comparison(*(report[role]["ap"] for role in _ROLES))


def _own_measurements(report: Mapping[str, Any]) -> Iterator[str]:
    for role in _ROLES:
        model = report[role]
        if model["ap"] is None or model["own_ap"] is None or abs(model["ap"] - model["own_ap"]) <= _SAME_AP:
            continue
        yield f"The {role} has AP {model['ap']:.3f} in {model['source']}, but {model['own_ap']:.3f} in its own stage."


def _first_steps(report: Mapping[str, Any]) -> Iterator[str]:
    for term in (report["distillation"]["first_steps"] or {}).get("terms") or []:
        if term.get("warning"):
            yield f"Loss term {term['term']}: {term['warning']}"


def _all_steps(report: Mapping[str, Any]) -> Iterator[str]:
    """A share may leave its bounds after the first steps."""
    first = (report["distillation"]["first_steps"] or {}).get("terms") or []
    said = {term["term"] for term in first if term.get("warning")}
    for term in report["distillation"]["terms"]:
        share = term["mean_share"]
        if term["term"] in (DETECTION, *said) or share is None or SHARE_LIMITS[0] <= share <= SHARE_LIMITS[1]:
            continue
        yield f"Loss term {term['term']}: {share:.2%} of the loss, over all steps in which it acts."


def _artifacts(report: Mapping[str, Any]) -> Iterator[str]:
    exported = {artifact["target"]: artifact for artifact in report["artifacts"]}
    for target, artifact in exported.items():
        if artifact["parity"]["passed"] is False:
            yield f"{target} does not agree with the torch student (see {artifact['sources']['parity']})."
        if artifact["parity"].get("reason"):
            yield f"{target} was not compared with the torch student: {artifact['parity']['reason']}."
        if artifact["changed_files"]:
            changed = ", ".join(artifact["changed_files"])
            yield f"{target}: {changed} differs from the hash in {artifact['sources']['sidecar']}."
    for artifact in report["artifacts"]:
        if artifact.get("accuracy"):
            name = f"{artifact['target']}@{artifact['device']}"
            yield f"{name}: accuracy: {artifact['accuracy']} ({artifact['accuracy_reason']})."
        if artifact["valid"] is False:
            reasons = "; ".join(artifact["invalid_reasons"] or ["no reason given"])
            yield f"The latency of {artifact['target']}@{artifact['device']} is not valid: {reasons}."
        for entry in artifact.get("throughput") or []:
            if not entry["valid"]:
                name = f"{artifact['target']}@{artifact['device']} ({load(entry)})"
                yield f"The throughput of {name} is not valid: {'; '.join(entry['invalid_reasons'])}."


def _data(report: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"Data, {sentence}." for sentence in notices(report["data"] or {}))
