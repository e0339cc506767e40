"""The valuable localization region: points beside the positive ones from which a box can still be told.

Localization Distillation for Dense Object Detection, Zheng et al., CVPR 2022, arXiv 2102.12252.

An anchor is a square of eight strides around its point, as in ATSS. Of each ground truth, the nine points of a level
that are nearest to its centre are candidates, and t = mean + standard deviation of their anchors' IoU. The region has
the anchors with 0.25 t <= DIoU < t.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.distill.adapters import fp32_island

ANCHOR_STRIDES = 8
CANDIDATES_PER_LEVEL = 9
LEAST_OF_THRESHOLD = 0.25


def valuable_region(points_px: Tensor, strides: Tensor, level_sizes: Sequence[tuple[int, int]], batch: Batch) -> Tensor:
    """The IoU of each point's anchor with the ground truth for which it is valuable, the largest; 0 outside: (B, A).

    Args:
        points_px, strides: (A, 2) and (A,).
        level_sizes: (H, W) per level; their products sum to A.
    """
    weight = _weights(points_px, strides, batch.boxes_px, [height * width for height, width in level_sizes])
    region = weight.new_zeros(batch.size, len(points_px))
    return region.scatter_reduce(0, batch.image_index.unsqueeze(1).expand_as(weight), weight, "amax")


@fp32_island
def _weights(points_px: Tensor, strides: Tensor, truth_px: Tensor, cells: Sequence[int]) -> Tensor:
    """IoU per ground truth and point, 0 where the point is not valuable for it: (M, A)."""
    from torchvision.ops import box_iou, distance_box_iou

    reach = strides.unsqueeze(-1) * (ANCHOR_STRIDES / 2)
    anchors = torch.cat([points_px - reach, points_px + reach], -1)
    if not len(truth_px):
        return points_px.new_zeros(0, len(points_px))
    overlap = box_iou(truth_px, anchors)
    distance = torch.cdist((truth_px[:, :2] + truth_px[:, 2:]) / 2, points_px)
    nearest = torch.cat(
        [
            overlaps.gather(1, far.topk(min(CANDIDATES_PER_LEVEL, far.shape[1]), dim=1, largest=False).indices)
            for overlaps, far in zip(
                *(torch.split(values, list(cells), 1) for values in (overlap, distance)), strict=True
            )
        ],
        1,
    )
    threshold = nearest.mean(1, keepdim=True) + nearest.std(1, keepdim=True)
    closeness = distance_box_iou(truth_px, anchors)
    valuable = (closeness >= LEAST_OF_THRESHOLD * threshold) & (closeness < threshold)
    weights: Tensor = overlap * valuable
    return weights
