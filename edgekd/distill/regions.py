"""Regions of the ground truth, and what RoIAlign cuts out at regions.

Levels are chosen by the size of the box, as in Feature Pyramid Networks for Object Detection, Lin et al., CVPR 2017,
arXiv 1612.03144. Where levels differ in width, the features of a narrow one are filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.detectors.regions import Regions, clipped, is_box
from edgekd.distill.adapters import fp32_island

CANONICAL_STRIDE = 16  # where a box of the canonical size belongs
_SAMPLES = 2  # per bin and axis, averaged


@dataclass(frozen=True)
class Cut:
    """RoIAlign on the levels of a pyramid.

    Attributes:
        strides: of the levels, finest first.
        widths: channels of the levels.
        size: cells of a cut region per side.
        canonical_px: side of a square box that belongs to stride 16; one twice as large belongs to stride 32.
    """

    strides: tuple[int, ...]
    widths: tuple[int, ...]
    size: int = 7
    canonical_px: float = 224.0

    @property
    def width(self) -> int:
        """Channels of what is cut out: those of the widest level."""
        return max(self.widths)

    def levels(self, boxes_px: Tensor) -> Tensor:
        """(M,) int64, the level of each of (M, 4) boxes: the coarsest whose boxes are not larger."""
        sides = boxes_px[:, 2:] - boxes_px[:, :2]
        wanted = CANONICAL_STRIDE * sides.prod(1).clamp_min(0).sqrt() / self.canonical_px
        strides = wanted.new_tensor(self.strides) - 1e-4
        return (torch.bucketize(wanted, strides, right=True) - 1).clamp_min(0)

    def elements(self, boxes_px: Tensor) -> Tensor:
        """(M,) numbers of a region that are features, not filling."""
        widths = torch.tensor(self.widths, device=boxes_px.device)
        return widths[self.levels(boxes_px)] * self.size**2

    def of(self, maps: Sequence[Tensor], regions: Regions) -> Tensor:
        """(M, width, size, size) of the valid regions, each from its level; `maps` are (B, C, H, W) per level."""
        boxes, images = regions.rows_px, regions.image_index
        levels = self.levels(boxes)
        rows = torch.cat([images[:, None].to(boxes.dtype), boxes], 1)
        found = boxes.new_zeros(len(boxes), self.width, self.size, self.size)
        for level, (feature, stride) in enumerate(zip(maps, self.strides, strict=True)):
            here = (levels == level).nonzero().flatten()
            found = _placed(found, here, roi_align(feature, rows[here], stride, self.size))
        return found

    def of_level(self, feature: Tensor, level: int, regions: Regions) -> Tensor:
        """(M, C, size, size) of all valid regions from one level, whatever their size."""
        rows = torch.cat([regions.image_index[:, None].float(), regions.rows_px], 1)
        return roi_align(feature, rows, self.strides[level], self.size)


@fp32_island
def roi_align(feature: Tensor, rows: Tensor, stride: int, size: int) -> Tensor:
    """Features (M, C, size, size) of (M, 5) image index and box in pixels, from a (B, C, H, W) map; float32.

    Mask R-CNN's RoIAlign with the half-cell shift of Detectron2 (`aligned`), two samples per bin and axis. A bin is a
    weighted sum of the cells about its samples, which torch's `embedding_bag` sums up: torchvision's operator takes up
    to seven times as long on a CPU, and adds gradients up in any order on a GPU.
    """
    _, channels, height, width = feature.shape
    cells = rows[:, 1:].detach() / stride - 0.5
    y, down = _samples(cells[:, 1], cells[:, 3], height, size)
    x, across = _samples(cells[:, 0], cells[:, 2], width, size)
    lines = rows[:, 0].long()[:, None, None] * height + y
    places = lines[:, :, None, :, None] * width + x[:, None, :, None, :]  # (M, size, size, 4, 4)
    weights = down[:, :, None, :, None] * across[:, None, :, None, :]
    found = F.embedding_bag(
        places.flatten(3).flatten(0, 2),
        feature.permute(0, 2, 3, 1).reshape(-1, channels),
        per_sample_weights=weights.flatten(3).flatten(0, 2),
        mode="sum",
    )
    return found.view(len(rows), size, size, channels).permute(0, 3, 1, 2).contiguous()


def _samples(low: Tensor, high: Tensor, cells: int, size: int) -> tuple[Tensor, Tensor]:
    """(M, size, 4) cells on a line beside the two samples of each bin between `low` and `high` (M,), and their weights.

    Samples outside by more than a cell give nothing, those outside by less what the border's cell holds.
    """
    steps = (torch.arange(_SAMPLES * size, device=low.device) + 0.5) / (_SAMPLES * size)
    at = low[:, None] + (high - low)[:, None] * steps
    inside = (at >= -1) & (at <= cells)
    at = at.clamp(0, cells - 1)
    before = at.floor()
    beside = torch.stack([before, (before + 1).clamp_max(cells - 1)], -1).long()
    weights = torch.stack([1 - (at - before), at - before], -1) * inside[..., None] / _SAMPLES
    return beside.view(len(low), size, 2 * _SAMPLES), weights.view(len(low), size, 2 * _SAMPLES)


def ground_truth(batch: Batch, min_side_px: float = 1.0) -> tuple[Regions, Tensor]:
    """The labels of a batch, cut off at the image, and their classes (B, R); what is smaller then is left out."""
    boxes = clipped(batch.boxes_px.float(), batch.images)
    keep = is_box(boxes, min_side_px)
    image_index, classes = batch.image_index[keep], batch.class_ids[keep]
    regions = Regions.of_rows(image_index, boxes[keep], batch.size)
    return regions, regions.spread(classes[torch.argsort(image_index, stable=True)])


def _placed(found: Tensor, rows: Tensor, features: Tensor) -> Tensor:
    """`found` (M, width, ...) with `features` (R, C, ...) in some rows, C of its channels at most."""
    missing = found.shape[1] - features.shape[1]
    if missing:
        features = torch.cat([features, features.new_zeros(len(features), missing, *features.shape[2:])], 1)
    return found.index_copy(0, rows, features)
