"""Disk that a run takes at most at one time, roughly."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from edgekd.stages.context import Context
from edgekd.stages.export import measured_size
from edgekd.stages.on_device import pairs
from edgekd.stages.seeds import roles, trained_models

_STATE, _KEPT = 20, 8  # bytes per parameter: of a saved training, of the weights that stay
_STORED = {"fp32": 4, "fp16": 2, "int8": 1}
_DETECTION = 60  # bytes of a detection as text
_FOUND = 60  # detections that an image has on average, of the many that may be kept; seen on small data sets
_REST = 20e6  # engine's settings, latency samples, the report


def disk_bytes(context: Context) -> int:
    """Bytes of the run directory, without teachers' knowledge, whose size its own stage tells."""
    recipe, data = context.bound.recipe, context.data
    parameters = context.pair.student.spec.parameters
    models = sum(len(trained_models(recipe, role)) for role in roles(recipe)) + (recipe.quantize.mode == "qat")
    judged = [split for name, split in data.splits.items() if name != "train"]
    images = sum(len(split.images) for split in judged)
    sizes = {context.size_px, *(measured_size(target, context) for target in context.bound.targets)}
    packs = sum(images * math.prod(size) * data.channels for size in sizes)
    weights = parameters * (_STATE + _KEPT * models)
    artifacts = sum(2 * parameters * _STORED.get(target.precision, 4) for target in context.bound.targets)
    looks = models + len(list(pairs(context))) + 1
    lines = looks * images * min(recipe.validate_.max_det, _FOUND) * _DETECTION
    cached = (
        len(data.splits["train"].images) * math.prod(context.size_px) * data.channels
        if recipe.train.get("cache") == "disk"
        else 0
    )
    return int(packs + weights + artifacts + lines + cached + _REST)


def free_bytes(path: Path) -> int:
    """Of the disk that a path lies on, or will."""
    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free
