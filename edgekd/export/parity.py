"""Parity: does an artifact say what the torch student says, on real images, before any threshold or NMS?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.agent import postprocess
from edgekd.agent.protocol import AgentError
from edgekd.agent.runtimes import Runtime, open_model, runtime_names, unusable
from edgekd.atomic import write_json
from edgekd.errors import EnvironmentFault, InputError
from edgekd.export import parity_nms
from edgekd.export.contract import Artifact, Sidecar, Suppression, TargetSpec
from edgekd.export.inputs import model_input, torch_input
from edgekd.export.matched import PARTNER_THRESHOLD, Matches, iou_of
from edgekd.export.tolerance import Tolerance
from edgekd.progress import progress, say
from edgekd.types import ByteArray, FloatArray

MIN_SCORE = 0.05  # boxes below are noise that no threshold lets through: their edges are not compared
_PAIR_IOU = 0.5
_DYNAMIC_BATCH = 4
_BORDER_PX = 64  # a dynamic size is tried at a second size, too
_ELSEWHERE = ("ncnn", "litert", "executorch", "coreml")  # runtimes of phones, which a host may well lack
_STAND_INS = {"tensorrt": "onnxruntime"}  # the engine is built on the device, from the ONNX in the artifact
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
    first; a row without a partner counts with the least that its score must have changed. How outputs of an NMS in the
    graph are compared, `parity_nms` says.

    Args:
        module: `Source.module`.
        images: (n, H, W, C) uint8, letterboxed to the artifact's size.

    Returns:
        The content of `parity.json`. `max_abs` is `max_abs_score`; values are None where an output is not finite.

    Raises:
        EnvironmentFault: the runtime is missing or cannot load the artifact.
    """
    sidecar = artifact.sidecar
    found, matches = Differences(), Matches()
    batches = list(_batches(images, sidecar))
    comparer = _comparer(sidecar)
    try:
        runtime = _open(artifact)
        with progress(f"parity {spec.name}", len(batches)) as advance:
            for batch, count in batches:
                expected = _torch_outputs(module, torch_input(batch, sidecar))
                outputs = runtime.run(model_input(batch, sidecar))
                actual = dict(zip(runtime.output_names, (np.array(output) for output in outputs), strict=True))
                actual = postprocess.own_layout(sidecar.decode, actual)
                comparer(found, expected, actual, count, spec.tolerance)
                if batch.shape[1:] == images.shape[1:]:  # at a second size, images are no pictures of anything
                    _match(matches, expected, actual, count, sidecar)
                advance()
    except AgentError as error:
        raise EnvironmentFault(f"{spec.name}: {error.message}") from error
    return {**_record(found, matches, len(images), spec.tolerance), "runtime": runtime.name}


def _open(artifact: Artifact) -> Runtime:
    """The artifact in its own runtime; where that is of another machine, in the one that runs the same file here."""
    sidecar = artifact.sidecar
    name = sidecar.runtime
    reason = unusable(name) if name in _STAND_INS else None
    if reason:
        name = _STAND_INS[name]
        say(f"parity {sidecar.target}: of the ONNX, in {name}: {sidecar.runtime} cannot run here ({reason})")
    build = sidecar.build if name == sidecar.runtime else None
    return open_model(name, artifact.model_path, _threads(), sidecar.precision, build=build)


def require(module: Any, artifact: Artifact, images: ByteArray, spec: TargetSpec) -> dict[str, Any]:
    """`compare`, write `parity.json` into the artifact's folder, and refuse an artifact that is out of tolerance.

    Where this machine lacks the runtime of a phone, the record has `passed: null` and the reason instead.

    Raises:
        InputError: out of tolerance; the file is written all the same.
    """
    reason = _not_run(artifact.sidecar.runtime)
    if reason:
        say(f"parity {spec.name}: not run: {reason}")
        absent = {"images": 0, "max_abs_score": None, "max_abs_box_px": None, "max_abs": None}
        record = {**absent, "tolerance": spec.tolerance.model_dump(exclude_none=True), "passed": None, "reason": reason}
        write_json(artifact.folder / PARITY_NAME, record)
        return record
    record = compare(module, artifact, images, spec)
    write_json(artifact.folder / PARITY_NAME, record)
    if record["passed"]:
        return record
    raise InputError(*(f"{spec.name}: parity: {problem}" for problem in _problems(record)))


def _not_run(runtime: str) -> str | None:
    """Why an artifact cannot be run here, where that is no fault."""
    if runtime not in _ELSEWHERE:
        return None
    if runtime not in runtime_names():
        return f"the agent has no runtime for {runtime}"
    return unusable(runtime)


def _problems(record: dict[str, Any]) -> Iterator[str]:
    """Which limits are broken, with the remedy."""
    images, tolerance = record["images"], record["tolerance"]
    for key in ("max_abs_score", "max_abs_box_px"):
        limit = tolerance.get(key)
        if record[key] is None or (limit is not None and record[key] > limit):
            stated = "" if limit is None else f", tolerance {limit:g}"
            yield (
                f"{key} is {_shown(record[key])} on {images} images{stated}; export in a "
                f"higher precision, or raise tolerance.{key} if the accuracy bears it"
            )
    share, least = record["matched"]["share"], tolerance.get("min_matched")
    if share is not None and least is not None and share < least:
        yield (
            f"only {share:.1%} of torch's {record['matched']['detections']} detections are found on {images} images, "
            f"tolerance {least:.1%}; export in a higher precision, or lower tolerance.min_matched if the accuracy "
            "bears it"
        )


def _match(
    matches: Matches, expected: list[FloatArray], actual: dict[str, FloatArray], count: int, sidecar: Sidecar
) -> None:
    nms = None if sidecar.nms is None else sidecar.nms.model_dump()
    settings = postprocess.settings(PARTNER_THRESHOLD, None, None, nms)
    decode = postprocess.decoder("dense" if "boxes" in actual else "end2end", list(actual))
    for image in range(count):
        ours = postprocess.postprocess([output[image] for output in expected], *settings)
        matches.add(ours, decode(actual, image, settings))


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


def _compare_suppressed(
    nms: Suppression,
    found: Differences,
    expected: list[FloatArray],
    actual: dict[str, FloatArray],
    count: int,
    tolerance: Tolerance,
) -> None:
    for boxes, scores, theirs in zip(*(output[:count] for output in expected), actual["detections"], strict=False):
        found.finite &= bool(np.isfinite(theirs).all())
        rows = theirs[theirs[:, 4] > 0]
        likely = rows[rows[:, 4] >= MIN_SCORE]
        found.add(*parity_nms.nearest_predictions(boxes, scores, likely, tolerance))
        found.add(parity_nms.not_suppressed(likely, nms), np.empty((0, 4)))
        found.add(parity_nms.missing(boxes, scores, rows, nms, tolerance.score_step), np.empty((0, 4)))


def _comparer(sidecar: Sidecar) -> Callable[..., None]:
    if sidecar.nms is not None:
        return partial(_compare_suppressed, sidecar.nms)
    return _compare_ranked if sidecar.decode.endswith("end2end") else _compare_dense


def pair_rows(ours: FloatArray, theirs: FloatArray, tolerance: Tolerance) -> npt.NDArray[np.int64]:
    """Partners of two ranked lists (k, 6) of x1 y1 x2 y2 score class, as (m, 2) row numbers.

    Best first, each of our rows that scores at least `MIN_SCORE` takes the nearest free row of its class that overlaps
    it by an IoU of 0.5; near means few tolerances away, in score and box alike. Out of tolerance it stays alone if it
    may as well have dropped out at the end of the other list.
    """
    dropped = _last(theirs) + tolerance.score_step
    free = np.ones(len(theirs), dtype=bool)
    pairs = []
    for row in np.argsort(-ours[:, 4], kind="stable"):
        if ours[row, 4] < MIN_SCORE:
            break
        allowed = free & (theirs[:, 5] == ours[row, 5]) & (iou_of(ours[row, :4], theirs[:, :4]) >= _PAIR_IOU)
        if not allowed.any():
            continue
        edges = np.abs(theirs[:, :4] - ours[row, :4]).max(axis=1) / tolerance.box_step_px
        scores = np.abs(theirs[:, 4] - ours[row, 4]) / tolerance.score_step
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


def _batches(images: ByteArray, sidecar: Sidecar) -> Iterator[tuple[ByteArray, int]]:
    """Images (B, H, W, C) uint8 and how many of each batch are images rather than filling."""
    fixed = sidecar.input_shape[0]
    shapes = sidecar.build.get("shapes")  # what an engine is built for is all that it takes
    size = fixed or min(_DYNAMIC_BATCH, len(images), shapes["max"][0] if shapes else len(images))
    for start in range(0, len(images), size):
        part = images[start : start + size]
        missing = size - len(part) if fixed else 0
        yield np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]), len(part)
    if sidecar.input_shape[2] is None and not shapes:
        margin = ((0, 0), (0, _BORDER_PX), (0, 2 * _BORDER_PX), (0, 0))
        part = np.resize(images[:size], (size, *images.shape[1:]))
        yield np.pad(part, margin, constant_values=sidecar.pad_value), size


def _torch_outputs(module: Any, batch: FloatArray) -> list[FloatArray]:
    import torch

    with torch.no_grad():
        outputs = module.eval()(torch.from_numpy(batch))
    return [output.numpy() for output in (outputs if isinstance(outputs, (tuple, list)) else (outputs,))]


def _record(found: Differences, matches: Matches, image_count: int, tolerance: Tolerance) -> dict[str, Any]:
    score, box_px = (value if found.finite else None for value in (found.score, found.box_px))
    record: dict[str, Any] = {
        "images": image_count,
        "boxes": found.boxes,
        "max_abs_score": score,
        "max_abs_box_px": box_px,
        "max_abs": score,
        "matched": matches.as_json(),
        "tolerance": tolerance.model_dump(exclude_none=True),
    }
    return {**record, "passed": not any(_problems(record))}


def _largest(values: npt.NDArray[Any]) -> float:
    largest = float(np.abs(values).max(initial=0.0))
    return largest if isfinite(largest) else 0.0


def _shown(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
