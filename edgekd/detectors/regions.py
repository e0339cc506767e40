"""Regions: boxes of a batch of images, and which of a detector's predictions it proposes for objects.

A batch of regions is padded to as many per image, so that what is known of them has the batch as its first dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Regions:
    """Boxes per image of a batch.

    Attributes:
        boxes_px: (B, R, 4), x1 y1 x2 y2; zeros where there is none.
        valid: (B, R) bool.
    """

    boxes_px: Tensor
    valid: Tensor

    @classmethod
    def of_rows(cls, image_index: Tensor, boxes_px: Tensor, batch_size: int) -> Regions:
        """From (M, 4) boxes and the image (M,) of each, in any order; the order within an image is kept."""
        counts = torch.bincount(image_index, minlength=batch_size)
        most = int(counts.max()) if len(image_index) else 0
        order = torch.argsort(image_index, stable=True)
        valid = torch.arange(most, device=image_index.device).expand(batch_size, most) < counts[:, None]
        boxes = boxes_px.new_zeros(batch_size, most, 4)
        boxes[valid] = boxes_px[order]
        return cls(boxes, valid)

    @property
    def image_index(self) -> Tensor:
        """(M,) int64, the image of each valid region."""
        return self.valid.nonzero()[:, 0]

    @property
    def rows_px(self) -> Tensor:
        """(M, 4), the valid boxes, image after image."""
        return self.boxes_px[self.valid]

    def spread(self, values: Tensor) -> Tensor:
        """(M, ...) of the valid regions -> (B, R, ...), zeros elsewhere."""
        padded = values.new_zeros(*self.valid.shape, *values.shape[1:])
        return padded.index_put((self.valid,), values)

    def also(self, other: Regions) -> Regions:
        """The regions of both, these first."""
        return Regions(torch.cat([self.boxes_px, other.boxes_px], 1), torch.cat([self.valid, other.valid], 1))


@dataclass(frozen=True)
class RegionPredictions:
    """What a region head says of the regions that it looks at, R of each image.

    Attributes:
        class_logits: (B, R, K), those of `log_odds` where scores are none of a sigmoid; far below 0 where an image has
            fewer regions.
        boxes_px: (B, R, 4), x1 y1 x2 y2, where the head puts the region's best class; zeros where there is none.
        known_classes: (K,) bool; see `DensePredictions`.
    """

    class_logits: Tensor
    boxes_px: Tensor
    known_classes: Tensor | None = None


def strongest(
    boxes_px: Tensor,
    scores: Tensor,
    images: Tensor,
    *,
    limit: int,
    nms_iou: float,
    min_score: float = 0.0,
    min_side_px: float = 1.0,
    before_nms: int = 1000,
) -> tuple[Regions, Tensor]:
    """The boxes of the highest scores per image after NMS, whatever their class.

    Args:
        boxes_px, scores: (B, A, 4) and (B, A).
        images: (B, C, H, W), at whose borders boxes are cut off.
        limit: regions per image at most.
        min_score, min_side_px: boxes below are left out.
        before_nms: boxes per image that take part in NMS.

    Returns:
        The regions, best first, and the scores (B, R) of them.
    """
    from torchvision.ops import batched_nms

    best = scores.topk(min(before_nms, scores.shape[1]), dim=1)
    boxes = clipped(boxes_px.gather(1, best.indices[..., None].expand(-1, -1, 4)), images)
    fits = is_box(boxes, min_side_px) & (best.values > min_score) & best.values.isfinite()
    image_index = fits.nonzero()[:, 0]
    kept = batched_nms(boxes[fits], best.values[fits], image_index, nms_iou)  # best first over all images
    kept = kept[torch.argsort(image_index[kept], stable=True)]
    place = _place_in_image(image_index[kept], len(images))
    kept = kept[place < limit]
    regions = Regions.of_rows(image_index[kept], boxes[fits][kept], len(images))
    return regions, regions.spread(best.values[fits][kept])


def overlaps(regions: Regions, others: Regions) -> Tensor:
    """(B, R, S) IoU of each image's regions with its other ones; 0 where either is none."""
    found = iou(regions.boxes_px.unsqueeze(2), others.boxes_px.unsqueeze(1))
    return found * (regions.valid.unsqueeze(2) & others.valid.unsqueeze(1))


def iou(first: Tensor, second: Tensor) -> Tensor:
    """(...,) IoU of boxes (..., 4), which may be broadcast; 0 of empty ones."""
    shared = _areas(torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:]))
    union = _areas(first[..., :2], first[..., 2:]) + _areas(second[..., :2], second[..., 2:]) - shared
    return shared / union.clamp_min(1e-9)


def clipped(boxes_px: Tensor, images: Tensor) -> Tensor:
    """Boxes (..., 4), cut off at the borders of (B, C, H, W) images."""
    height, width = images.shape[-2:]
    limits = boxes_px.new_tensor([width, height, width, height])
    return torch.minimum(boxes_px.clamp_min(0), limits)


def is_box(boxes_px: Tensor, min_side_px: float) -> Tensor:
    """(...,) bool, of (..., 4) boxes: both sides are at least so long."""
    return (boxes_px[..., 2:] - boxes_px[..., :2] >= min_side_px).all(-1)


def _areas(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp_min(0).prod(-1)


def _place_in_image(image_index: Tensor, batch_size: int) -> Tensor:
    """(M,) from 0, of rows that are sorted by image."""
    counts = torch.bincount(image_index, minlength=batch_size)
    begins = counts.cumsum(0) - counts
    return torch.arange(len(image_index), device=image_index.device) - begins[image_index]
