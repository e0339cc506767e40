"""The engine's batch in the form that methods know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import torch

from edgekd.detectors.outputs import Batch, View

KEY = "edgekd_view"
Box: TypeAlias = tuple[float, float, float, float]


class Sample(NamedTuple):
    """One image of a batch.

    Attributes:
        ids: places in the split of all images that are in it.
        parts: x1 y1 x2 y2 of each, where they lie: in pixels between transforms, in 0..1 of the sides at the end.
        labelled: all its images are.
    """

    ids: tuple[int, ...]
    parts: tuple[Box, ...]
    labelled: bool

    @property
    def content(self) -> Box:
        """Around all parts that can be seen; empty where none can."""
        seen = [(x1, y1, x2, y2) for x1, y1, x2, y2 in self.parts if x2 > x1 and y2 > y1] or [(0.0, 0.0, 0.0, 0.0)]
        x1, y1, x2, y2 = zip(*seen, strict=True)
        return min(x1), min(y1), max(x2), max(y2)


def batch_of(batch: dict[str, Any]) -> Batch:
    """What methods know of the engine's batch."""
    images = batch["img"]
    height, width = images.shape[-2:]
    boxes = batch["bboxes"]
    size = boxes.new_tensor([width, height])
    centre, half = boxes[:, :2] * size, boxes[:, 2:] * size / 2
    return Batch(
        images=images,
        image_index=batch["batch_idx"].view(-1).long(),
        class_ids=batch["cls"].view(-1).long(),
        boxes_px=torch.cat([centre - half, centre + half], 1),
        engine=batch,
        shown=_view_of(batch),
    )


def _view_of(batch: Mapping[str, Any]) -> View | None:
    """What the images of the engine's batch show; None of a batch whose data set is not followed."""
    samples: tuple[Sample, ...] | None = batch.get(KEY)
    if samples is None:
        return None
    images = batch["img"]
    height, width = images.shape[2:]
    content = torch.tensor([sample.content for sample in samples]) * torch.tensor([width, height, width, height])
    labelled = [sample.labelled for sample in samples]
    return View(
        image_ids=torch.tensor([sample.ids[0] for sample in samples], device=images.device),
        content_px=content.to(images.device),
        mixed=torch.tensor([len(sample.ids) > 1 for sample in samples], device=images.device),
        labelled=torch.tensor(labelled, device=images.device),
        all_labelled=all(labelled),
    )
