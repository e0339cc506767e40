"""AP of a detector in torch on this machine, on one split, by all ranks together; of a file of detections as well."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekd import ranks
from edgekd.data import pack
from edgekd.detectors.class_map import columns_of
from edgekd.detectors.contract import Detector, Recorded
from edgekd.detectors.spec import Branch
from edgekd.distill.config import MAIN
from edgekd.ranks import agreement
from edgekd.stages.accuracy import Stopwatch, detect_in_torch, summarise, write_accuracy
from edgekd.stages.binding import hash_of_weights
from edgekd.stages.context import Context
from edgekd.stages.recorded_teachers import recorded_on
from edgekd.training.engines.placement import torch_device
from edgekd.types import Detections, Split


def measuring(context: Context) -> dict[str, Any]:
    """What decides an AP in torch beside the model: for the inputs of a stage that measures."""
    return {"validate": context.bound.recipe.validate_.model_dump(), "size": list(context.size_px)}


def teacher_measuring(context: Context) -> dict[str, Any]:
    """What decides what the first teacher finds in images."""
    side = context.pair.teachers[MAIN]
    assert side.recipe is not None
    weights = hash_of_weights(context.bound.weights_path(side.recipe))
    return {"weights": weights, "columns": columns_of(side.classes), **measuring(context)}


def measure_in_torch(
    context: Context,
    detector: Detector,
    head: Branch | None,
    name: str,
    *,
    columns: np.ndarray[Any, Any] | None = None,
    split: str = "val",
    root: str = "",
) -> tuple[dict[str, Any], list[str]]:
    """AP of a detector, and the files that hold it.

    All ranks take part; rank 0 writes, and the others have nothing to say.

    Args:
        head: branch to use; None where there is none.
        name: of the model, in files.
        columns: see `detect_in_torch`.
        root: folder below the run, with a slash, below which the files go.
    """
    watch, settings, images = Stopwatch(), context.bound.recipe.validate_, context.data.splits[split]
    title = f"{'validating' if split == 'val' else 'testing'} the {name}"
    found = found_by(context, detector, head, images, title=title, columns=columns)
    if not ranks.is_main():
        return {}, []
    summary = summarise(images, found, context.data.class_names, settings, head)
    folder, seconds = context.path / root, watch.seconds()
    written = write_accuracy(folder, f"{name}@host", summary, split=images, found=found, seconds=seconds)
    return summary, [f"{root}{file}" for file in written]


def found_by(
    context: Context,
    detector: Detector,
    head: Branch | None,
    images: Split,
    *,
    title: str,
    columns: np.ndarray[Any, Any] | None = None,
) -> list[Detections]:
    """Detections of a detector on a split, or those that its file has there; on rank 0 alone.

    Args:
        head, columns: as in `measure_in_torch`.
    """
    if isinstance(detector, Recorded):
        return recorded_on(context, detector, images.name, columns) if ranks.is_main() else []
    folder = context.path / "data" / "packs"
    packed = ranks.on_main(lambda: pack.build(images, context.size_px, context.data.channels, folder))
    agreement.await_file(packed.npy_path, packed.sha256)
    settings, device = context.bound.recipe.validate_, torch_device(context.bound.recipe.train.get("device"))
    return detect_in_torch(detector, head, pack=packed, columns=columns, settings=settings, title=title, device=device)
