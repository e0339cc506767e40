"""Parity: does an artifact say what the torch student says, on real images, before any threshold or NMS?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.agent.protocol import AgentError
from edgekd.agent.runtimes import open_model
from edgekd.atomic import write_json
from edgekd.errors import EnvironmentFault, InputError
from edgekd.export.contract import Artifact, Sidecar, TargetSpec, Tolerance
from edgekd.progress import progress
from edgekd.types import ByteArray, FloatArray

MIN_SCORE = 0.05  # boxes below are noise that no threshold lets through: their edges are not compared
_PAIR_IOU = 0.5
_DYNAMIC_BATCH = 4
_BORDER_PX = 64  # a dynamic size is tried at a second size, too
PARITY_NAME = "parity.json"


@dataclass
class Differences:
    """Largest absolute differences so far, and over how many boxes (`boxes`) the edges were compared."""

    score: float = 0.0
    box_px: float = 0.0
    boxes: int = 0
    finite: bool = True

    def add(self, score: npt.NDArray[Any], box_px: npt.NDArray[Any]) -> None:
        """Take in differences of scores (any shape) and of box edges (M, 4)."""
        self.finite &= bool(np.isfinite(score).all() and np.isfinite(box_px).all())
        self.score = max(self.score, _largest(score))
        self.box_px = max(self.box_px, _largest(box_px))
        self.boxes += len(box_px)


def compare(module: Any, artifact: Artifact, images: ByteArray, spec: TargetSpec) -> dict[str, Any]:
    """Run torch and the artifact's own runtime on the same images and compare their raw outputs.

    Dense outputs are compared row by row: all scores, and the boxes that torch scores at least `MIN_SCORE`.
    End-to-end outputs are ranked lists, in which near-ties swap places: rows of one class are paired by overlap, best
    first; a row without a partner counts with the least that its score must have changed.

    Args:
        module: `Source.module`.
        images: (n, H, W, C) uint8, letterboxed to the artifact's size.

    Returns:
        The content of `parity.json`. `max_abs` is `max_abs_score`; values are None where an output is not finite.

    Raises:
        EnvironmentFault: the runtime is missing or cannot load the artifact.
    """
    sidecar = artifact.sidecar
    found = Differences()
    batches = list(_batches(images, sidecar))
    try:
        runtime = open_model(sidecar.runtime, artifact.model_path, _threads(), sidecar.precision, build=sidecar.build)
    except AgentError as error:
        raise EnvironmentFault(f"{spec.name}: {error.message}") from error
    with progress(f"parity {spec.name}", len(batches)) as advance:
        for batch, count in batches:
            expected = _torch_outputs(module, batch)
            actual = dict(zip(runtime.output_names, (np.array(output) for output in runtime.run(batch)), strict=True))
            _COMPARERS[sidecar.decode](found, expected, actual, count, spec.tolerance)
            advance()
    return _record(found, len(images), spec.tolerance)


def require(module: Any, artifact: Artifact, images: ByteArray, spec: TargetSpec) -> dict[str, Any]:
    """`compare`, write `parity.json` into the artifact's folder, and refuse an artifact that is out of tolerance.

    Raises:
        InputError: out of tolerance; the file is written all the same.
    """
    record = compare(module, artifact, images, spec)
    write_json(artifact.folder / PARITY_NAME, record)
    if record["passed"]:
        return record
    raise InputError(
        *(
            f"{spec.name}: parity: {key} is {_shown(record[key])} on {record['images']} images, tolerance "
            f"{limit:g}; export in a higher precision, or raise tolerance.{key} if the accuracy bears it"
            for key, limit in record["tolerance"].items()
            if record[key] is None or record[key] > limit
        )
    )


def _compare_dense(
    found: Differences, expected: list[FloatArray], actual: dict[str, FloatArray], count: int, _: Tolerance
) -> None:
    boxes, scores = (output[:count] for output in expected)
    kept = scores.max(axis=2) >= MIN_SCORE
    found.add(actual["scores"][:count] - scores, (actual["boxes"][:count] - boxes)[kept])


def _compare_ranked(
    found: Differences, expected: list[FloatArray], actual: dict[str, FloatArray], count: int, tolerance: Tolerance
) -> None:
    for ours, theirs in zip(expected[0][:count], actual["detections"][:count], strict=True):
        found.finite &= bool(np.isfinite(theirs).all())
        pairs = pair_rows(ours, theirs, tolerance)
        found.add(theirs[pairs[:, 1], 4] - ours[pairs[:, 0], 4], theirs[pairs[:, 1], :4] - ours[pairs[:, 0], :4])
        found.add(_unpaired(ours, pairs[:, 0], theirs), np.empty((0, 4)))
        found.add(_unpaired(theirs, pairs[:, 1], ours), np.empty((0, 4)))


_COMPARERS = {"dense": _compare_dense, "end2end": _compare_ranked}


def pair_rows(ours: FloatArray, theirs: FloatArray, tolerance: Tolerance) -> npt.NDArray[np.int64]:
    """Partners of two ranked lists (k, 6) of x1 y1 x2 y2 score class, as (m, 2) row numbers.

    Best first, each of our rows that scores at least `MIN_SCORE` takes the nearest free row of its class that overlaps
    it by an IoU of 0.5; near means few tolerances away, in score and box alike. Out of tolerance it stays alone if it
    may as well have dropped out at the end of the other list.
    """
    dropped = _last(theirs) + tolerance.max_abs_score
    free = np.ones(len(theirs), dtype=bool)
    pairs = []
    for row in np.argsort(-ours[:, 4], kind="stable"):
        if ours[row, 4] < MIN_SCORE:
            break
        allowed = free & (theirs[:, 5] == ours[row, 5]) & (_iou(ours[row, :4], theirs[:, :4]) >= _PAIR_IOU)
        if not allowed.any():
            continue
        edges = np.abs(theirs[:, :4] - ours[row, :4]).max(axis=1) / tolerance.max_abs_box_px
        scores = np.abs(theirs[:, 4] - ours[row, 4]) / tolerance.max_abs_score
        distances = np.where(allowed, np.maximum(edges, scores), np.inf)
        partner = int(np.argmin(distances))
        if distances[partner] > 1 and ours[row, 4] <= dropped:
            continue
        free[partner] = False
        pairs.append((row, partner))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _unpaired(rows: FloatArray, paired: npt.NDArray[np.int64], others: FloatArray) -> FloatArray:
    """By how much at least the scores of rows without a partner changed: the other list kept only better ones."""
    alone = np.setdiff1d(np.flatnonzero(rows[:, 4] >= MIN_SCORE), paired)
    changed: FloatArray = np.maximum(rows[alone, 4] - _last(others), 0)
    return changed


def _last(rows: FloatArray) -> float:
    """Score that a row must reach to stand in a list."""
    return max(float(rows[:, 4].min(initial=1.0)), MIN_SCORE)


def _iou(box: FloatArray, boxes: FloatArray) -> FloatArray:
    """IoU of one box (4,) with boxes (n, 4)."""
    overlap = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None).prod(axis=1)
    area, areas = (np.clip(b[..., 2:] - b[..., :2], 0, None).prod(axis=-1) for b in (box, boxes))
    union = np.maximum(area + areas - overlap, np.float32(1e-9))
    result: FloatArray = overlap / union
    return result


def _batches(images: ByteArray, sidecar: Sidecar) -> Iterator[tuple[FloatArray, int]]:
    """Input arrays (B, C, H, W) float32 and how many of each are images rather than filling."""
    fixed = sidecar.input_shape[0]
    size = fixed or min(_DYNAMIC_BATCH, len(images))
    for start in range(0, len(images), size):
        part = images[start : start + size]
        missing = size - len(part) if fixed else 0
        yield _as_input(np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]), sidecar), len(part)
    if sidecar.input_shape[2] is None:
        margin = ((0, 0), (0, _BORDER_PX), (0, 2 * _BORDER_PX), (0, 0))
        part = np.resize(images[:size], (size, *images.shape[1:]))
        yield _as_input(np.pad(part, margin, constant_values=sidecar.pad_value), sidecar), size


def _as_input(images: ByteArray, sidecar: Sidecar) -> FloatArray:
    batch: FloatArray = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    batch /= np.float32(sidecar.scale)
    return batch


def _torch_outputs(module: Any, batch: FloatArray) -> list[FloatArray]:
    import torch

    with torch.no_grad():
        outputs = module.eval()(torch.from_numpy(batch))
    return [output.numpy() for output in (outputs if isinstance(outputs, (tuple, list)) else (outputs,))]


def _record(found: Differences, image_count: int, tolerance: Tolerance) -> dict[str, Any]:
    score, box_px = (value if found.finite else None for value in (found.score, found.box_px))
    passed = found.finite and found.score <= tolerance.max_abs_score and found.box_px <= tolerance.max_abs_box_px
    return {
        "images": image_count,
        "boxes": found.boxes,
        "max_abs_score": score,
        "max_abs_box_px": box_px,
        "max_abs": score,
        "tolerance": tolerance.model_dump(),
        "passed": passed,
    }


def _largest(values: npt.NDArray[Any]) -> float:
    largest = float(np.abs(values).max(initial=0.0))
    return largest if isfinite(largest) else 0.0


def _shown(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
