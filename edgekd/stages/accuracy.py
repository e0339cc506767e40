"""AP of a model, in torch on this machine or of an artifact on a device: one NMS, one AP, one form of file for both."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgekd import ranks
from edgekd.agent.postprocess import postprocess
from edgekd.atomic import write_json, write_text
from edgekd.data.pack import Pack
from edgekd.detectors.contract import Detector
from edgekd.detectors.spec import Branch
from edgekd.errors import InputError
from edgekd.measure.average_precision import evaluate, operating_point
from edgekd.measure.error_breakdown import error_breakdown
from edgekd.progress import progress
from edgekd.recipe.sections import ValidateRecipe
from edgekd.types import Detections, Split

_BATCH = 16


def detect_in_torch(
    detector: Detector,
    head: Branch | None,
    *,
    pack: Pack,
    columns: np.ndarray[Any, Any] | None,
    settings: ValidateRecipe,
    title: str,
    device: Any = "cpu",
    alone: bool = False,
) -> list[Detections]:
    """Detections of a torch detector on a pack, boxes in original-image pixels.

    Ranks share the images out, in batches that are the same however many ranks there are; so are the detections.

    Args:
        columns: (K,) class columns of the detector per class of the data, -1 where it does not know the class; None
            where the classes are the same.
        device: what this process computes on.
        alone: the other ranks do not take part.

    Returns:
        On rank 0 those of all images, in order; nothing elsewhere.
    """
    import torch

    module = detector.export_module(head).eval().to(device)
    arrays = pack.arrays()
    starts = range(0, len(arrays), _BATCH)
    rank, size = (0, 1) if alone else (ranks.rank(), ranks.size())
    found: dict[int, list[Detections]] = {}
    with progress(title, len(arrays)) as advance, torch.inference_mode(), _full_float32():
        for start in starts[rank::size]:
            block = np.array(arrays[start : start + _BATCH].transpose(0, 3, 1, 2), order="C")
            outputs = module(torch.from_numpy(block).to(device).float() / 255)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            rows = [output.cpu().numpy() for output in outputs]
            found[start] = []
            for index in range(len(block)):
                raw = [row[index] for row in rows]
                if columns is not None:
                    raw = in_data_classes(raw, columns)
                boxes, scores, classes = postprocess(raw, settings.conf, settings.iou, settings.max_det)
                found[start].append(Detections(pack.restore(start + index, boxes), scores, classes))
            advance(min(_BATCH * size, len(arrays) - start))
    shares = [found] if alone else ranks.gather(found)
    merged = {start: part for share in shares for start, part in share.items()}
    return [detections for start in sorted(merged) for detections in merged[start]]


@contextmanager
def _full_float32() -> Iterator[None]:
    """Convolutions on a GPU without TF32, whose rounding an exported artifact would be blamed for."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def in_data_classes(raw: list[np.ndarray[Any, Any]], columns: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Reorder dense score columns; of end-to-end rows, give each its classes of the data, and drop foreign ones."""
    if len(raw) == 2:
        boxes, scores = raw
        return [boxes, np.where(columns >= 0, scores[:, np.maximum(columns, 0)], 0).astype(np.float32)]
    rows = raw[0]
    sources, classes = np.nonzero(rows[:, 5, None].astype(int) == columns)  # a column may serve several classes
    return [np.column_stack([rows[sources, :5], classes]).astype(np.float32)]


def summarise(
    split: Split, found: Sequence[Detections], class_names: tuple[str, ...], settings: ValidateRecipe, head: str | None
) -> dict[str, Any]:
    """AP overall, by size and per class, precision and recall at the operating threshold, and errors by kind."""
    if len(found) != len(split.images):
        raise InputError(f"{split.name}: {len(found)} images were detected on, the split has {len(split.images)}")
    by_image = {truth.image_id: detections for truth, detections in zip(split.images, found, strict=True)}
    point = operating_point(split.images, by_image, settings.operating_threshold)
    return {
        **asdict(evaluate(split.images, by_image, class_names)),
        "operating_point": asdict(point),
        "errors": asdict(error_breakdown(split.images, by_image, len(class_names))),
        "images": len(found),
        "settings": {"conf": settings.conf, "iou": settings.iou, "max_det": settings.max_det, "head": head},
    }


def write_accuracy(
    folder: Path, name: str, summary: Mapping[str, Any], *, split: Split, found: Sequence[Detections], seconds: float
) -> list[str]:
    """Write `validate/<name>.json` and the raw detections beside it; returns their names below the run.

    Args:
        folder: the run directory.
        name: `model@device`.
        summary: of `summarise`.
        split: what was detected on.
        found: detections per image of the split.
        seconds: what it took.
    """
    model, _, device = name.partition("@")
    lines = [
        json.dumps({
            "image_id": truth.image_id,
            "boxes_px": np.round(detections.boxes_px.astype(float), 3).tolist(),
            "scores": np.round(detections.scores.astype(float), 6).tolist(),
            "class_ids": detections.class_ids.tolist(),
        })
        for truth, detections in zip(split.images, found, strict=True)
    ]  # fmt: skip
    write_text(folder / "validate" / f"{name}.detections.jsonl", "".join(line + "\n" for line in lines))
    content = {"schema": "edgekd.accuracy/1", "model": model, "device": device, "seconds": round(seconds, 3), **summary}
    write_json(folder / "validate" / f"{name}.json", content)
    return [f"validate/{name}.json", f"validate/{name}.detections.jsonl"]


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Elapsed time."""
        return time.monotonic() - self._started
