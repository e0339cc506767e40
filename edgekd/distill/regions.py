"""Regions: boxes of a batch, chosen from the ground truth or from predictions, and what RoIAlign cuts out at them.

A batch of regions is padded to as many per image, so that what is known of them has the batch as its first dimension.
Levels are chosen by the size of the box, as in Feature Pyramid Networks for Object Detection, Lin et al., CVPR 2017,
arXiv 1612.03144. Where levels differ in width, the features of a narrow one are filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput

CANONICAL_STRIDE = 16  # where a box of the canonical size belongs
_SAMPLES = 2  # per bin and axis, averaged


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


def roi_align(feature: Tensor, rows: Tensor, stride: int, size: int) -> Tensor:
    """Features (M, C, size, size) of (M, 5) image index and box in pixels, from a (B, C, H, W) map; float32.

    Mask R-CNN's RoIAlign with the half-cell shift of Detectron2 (`aligned`), two samples per bin and axis. The operator
    itself is called: torchvision's function compiles a substitute on GPUs where deterministic algorithms are wished
    for, as the engine does, which warns and goes on.
    """
    import torchvision  # noqa: F401  (registers the operator)

    scale = 1 / stride
    found: Tensor = torch.ops.torchvision.roi_align(feature.float(), rows.float(), scale, size, size, _SAMPLES, True)
    return found


def ground_truth(batch: Batch, min_side_px: float = 1.0) -> tuple[Regions, Tensor]:
    """The labels of a batch, cut off at the image, and their classes (B, R); what is smaller then is left out."""
    boxes = clipped(batch.boxes_px.float(), batch.images)
    keep = is_box(boxes, min_side_px)
    image_index, classes = batch.image_index[keep], batch.class_ids[keep]
    regions = Regions.of_rows(image_index, boxes[keep], batch.size)
    return regions, regions.spread(classes[torch.argsort(image_index, stable=True)])


def predictions(output: DetectorOutput, branch: str | None = None) -> tuple[Tensor, Tensor]:
    """Boxes (B, A, 4) in pixels and class probabilities (B, A, K) of a head of any kind, detached, in float32.

    Of a query head those of the last layer; classes that the detector does not know have probability 0.

    Args:
        branch: of a dense head; None: the first one there is.
    """
    if output.queries is not None:
        queries = output.queries
        boxes, logits, known = queries.boxes_px[-1], queries.class_logits[-1], queries.known_classes
    else:
        dense = output.dense[branch or next(iter(output.dense))]
        boxes, logits, known = dense.boxes_px, dense.class_logits, dense.known_classes
    probabilities = logits.detach().float().sigmoid()
    return boxes.detach().float(), probabilities if known is None else probabilities * known


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


def _placed(found: Tensor, rows: Tensor, features: Tensor) -> Tensor:
    """`found` (M, width, ...) with `features` (R, C, ...) in some rows, C of its channels at most."""
    missing = found.shape[1] - features.shape[1]
    if missing:
        features = torch.cat([features, features.new_zeros(len(features), missing, *features.shape[2:])], 1)
    return found.index_copy(0, rows, features)


def _place_in_image(image_index: Tensor, batch_size: int) -> Tensor:
    """(M,) from 0, of rows that are sorted by image."""
    counts = torch.bincount(image_index, minlength=batch_size)
    begins = counts.cumsum(0) - counts
    return torch.arange(len(image_index), device=image_index.device) - begins[image_index]
