"""The artifact that would ship, looked at closely: its scores, its confusions, and the images it does worst on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekd.measure import operating
from edgekd.report.files import RunFiles
from edgekd.report.gallery import (
    NOTHING,
    Gallery,
    detections_of,
    example_of,
    ground_truth,
    pack_of,
    picture_of,
    threshold_of,
)
from edgekd.report.matching import Matched, match_image
from edgekd.report.numbers import ROLE_NAMES
from edgekd.types import Detections, GroundTruth

_LEAST_SCORE = 0.01  # below, hundreds of an image say nothing of a threshold that anybody would choose
_MOST_CONFUSIONS = 15
_BESIDE = ("student", "control", "teacher")


def subject(files: RunFiles, report: Mapping[str, Any]) -> tuple[str, str] | None:
    """(name, file of its detections) of the best artifact, else of the student; None where neither has any."""
    best, found = report["best"] or {}, {"student": "validate/student@host.detections.jsonl"}
    if best.get("target"):
        name = f"{best['target']}@{best['device']}"
        found = {name: f"validate/{name}.detections.jsonl", **found}
    return next(((name, file) for name, file in found.items() if (files.run / file).is_file()), None)


def diagnosed(files: RunFiles, report: Mapping[str, Any]) -> dict[str, Any] | None:
    """`report.json`'s `shipping`: curves, calibration and confusions; None where labels or detections are missing.

    Shares in 0..1. `confusions` are the most frequent ones, `truth` or `found` None being the background; `matrix`
    has a row for each class of the truth, background last.
    """
    chosen, truths = subject(files, report), ground_truth(files)
    if chosen is None or not truths:
        return None
    name, file = chosen
    files.sha256(file)  # refused if edited
    found, threshold = detections_of(files, file, _LEAST_SCORE), threshold_of(report)
    scores, right = _flags(truths, found)
    objects = int(sum(np.count_nonzero(~truth.is_crowd) for truth in truths))
    curve, calibrated = operating.curve(scores, right, objects), operating.calibration(scores, right)
    names = [str(one) for one in (report["data"] or {}).get("class_names") or []]
    matrix = _matrix(truths, found, threshold, len(names))
    best = int(curve.f1.argmax())
    return {
        "subject": name, "source": file, "threshold": threshold, "least_score": _LEAST_SCORE,
        "curve": {
            "threshold": operating.THRESHOLDS.tolist(), "precision": _rounded(curve.precision),
            "recall": _rounded(curve.recall), "f1": _rounded(curve.f1),
        },
        "best_f1": {"threshold": float(operating.THRESHOLDS[best]), "f1": _rounded(curve.f1)[best]},
        "calibration": {
            "count": calibrated.count.tolist(), "score": _rounded(calibrated.score),
            "right": _rounded(calibrated.right), "error": calibrated.error,
        },
        "matrix": matrix.tolist(), "confusions": _confusions(matrix, names),
    }  # fmt: skip


def worst(files: RunFiles, report: Mapping[str, Any], examples: int) -> Gallery | None:
    """The images on which the artifact has most errors, with the torch models beside it; None where some is missing."""
    chosen, truths, pack = subject(files, report), ground_truth(files), pack_of(files)
    if chosen is None or not truths or pack is None or examples < 1:
        return None
    name, file = chosen
    threshold, (pack_name, images, stack) = threshold_of(report), pack
    known = [truth for truth in truths if truth.image_id in images]
    found = detections_of(files, file, threshold)
    matched = {truth.image_id: match_image(truth, found.get(truth.image_id, NOTHING), threshold) for truth in known}
    ranked = sorted(known, key=lambda truth: (-matched[truth.image_id].errors, truth.image_id))
    ranked = [truth for truth in ranked[:examples] if matched[truth.image_id].errors]
    beside = {role: f"validate/{role}@host.detections.jsonl" for role in _BESIDE if role != name}
    beside = {role: path for role, path in beside.items() if (files.run / path).is_file() and report[role]["ap"]}
    others = {role: detections_of(files, path, threshold) for role, path in beside.items()}
    titles = {"artifact": name, **ROLE_NAMES}
    names = [str(one) for one in (report["data"] or {}).get("class_names") or []]
    shown = []
    for truth in ranked:
        panels: dict[str, Matched] = {"artifact": matched[truth.image_id]}
        for role, detections in others.items():
            panels[role] = match_image(truth, detections.get(truth.image_id, NOTHING), threshold)
        picture = picture_of(stack, *images[truth.image_id], truth)
        shown.append(example_of(truth, picture, panels, names, titles, "worst"))
    rule = f"The images on which {name} has most missed and false boxes (IoU 0.5), worst first."
    sources = ("data/ground_truth-val.json", pack_name, file, *beside.values())
    return Gallery(tuple(shown), rule, threshold, sources) if shown else None


def _flags(truths: Sequence[GroundTruth], found: Mapping[int, Detections]) -> tuple[Any, Any]:
    """Scores of all detections that are not in crowds, and whether each is right."""
    scores, right = [np.zeros(0, np.float32)], [np.zeros(0, np.bool_)]
    for truth in truths:
        if truth.image_id in found:
            one = match_image(truth, found[truth.image_id], _LEAST_SCORE)
            scores.append(one.detections.scores[~one.ignored])
            right.append(one.right[~one.ignored])
    return np.concatenate(scores), np.concatenate(right)


def _matrix(
    truths: Sequence[GroundTruth], found: Mapping[int, Detections], threshold: float, classes: int
) -> np.ndarray[Any, Any]:
    rows = []
    for truth in truths:
        one = match_image(truth, found.get(truth.image_id, NOTHING), threshold)
        rows.append((truth, one.detections, one.right, one.ignored, one.missed))
    return operating.confusion(rows, classes)


def _confusions(matrix: np.ndarray[Any, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent cells beside the diagonal, classes among themselves before those with the background."""
    known: list[str | None] = [*names, None]
    objects = matrix.sum(axis=1)
    rows = [
        {"truth": known[actual], "found": known[taken], "count": int(matrix[actual, taken]),
         "share": float(matrix[actual, taken] / objects[actual]) if actual < len(names) else None}
        for actual, taken in zip(*np.nonzero(matrix), strict=True) if actual != taken
    ]  # fmt: skip
    rows.sort(key=lambda row: (row["truth"] is None or row["found"] is None, -row["count"]))
    return rows[:_MOST_CONFUSIONS]


def _rounded(values: Any) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in values]
