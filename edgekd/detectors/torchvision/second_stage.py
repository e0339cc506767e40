"""What Faster R-CNN's second stage says of each region that its first stage proposes.

    score of class k = softmax(z)_k over all columns, the background's included

It is given as log(p / (1 - p)) (see `log_odds`). Boxes are computed in float32, whatever the layers are computed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.detectors.log_odds import log_odds

NOT_THERE = -30.0  # the logit of a class where an image has fewer regions than others may have


def of_proposals(network: Any, images: Tensor, columns: Sequence[int]) -> dict[str, Tensor]:
    """`scores` (B, R, K) of the kept columns and `boxes` (B, R, 4) px, R as many as there may be.

    Args:
        images: RGB (B, C, H, W) in 0..1, resized no more.
    """
    sizes = [(images.shape[2], images.shape[3])] * len(images)
    pixels = (images - network.pixel_mean) / network.pixel_std
    maps: Mapping[str, Tensor] = network.backbone(pixels)
    proposals = _proposals(network.rpn, pixels, sizes, list(maps.values()))
    cut = network.roi_heads.box_roi_pool({name: one.float() for name, one in maps.items()}, proposals, sizes)
    weights = next(network.roi_heads.box_head.parameters())
    logits, codes = network.roi_heads.box_predictor(network.roi_heads.box_head(cut.to(weights.dtype)))
    scores = log_odds(F.log_softmax(logits.float(), -1))[:, list(columns)]
    boxes = network.roi_heads.box_coder.decode(codes.float(), proposals)[:, list(columns)]  # (regions, K, 4)
    best = boxes[torch.arange(len(boxes), device=boxes.device), scores.argmax(-1)]
    most, counts = network.rpn.post_nms_top_n(), [len(one) for one in proposals]
    return {
        "scores": _padded(torch.split(scores, counts), most, NOT_THERE),
        "boxes": _padded(torch.split(_clipped(best, sizes[0]), counts), most, 0.0),
    }


def _proposals(rpn: Any, pixels: Tensor, sizes: list[tuple[int, int]], maps: list[Tensor]) -> list[Tensor]:
    """Per image boxes (n, 4) px, as torchvision's own `forward` proposes them."""
    from torchvision.models.detection.image_list import ImageList
    from torchvision.models.detection.rpn import concat_box_prediction_layers

    objectness, codes = ([one.float() for one in part] for part in rpn.head(maps))
    anchors = rpn.anchor_generator(ImageList(pixels.float(), sizes), [one.float() for one in maps])
    per_level = [one[0].numel() for one in objectness]
    flat, deltas = concat_box_prediction_layers(objectness, codes)
    boxes = rpn.box_coder.decode(deltas, anchors).view(len(pixels), -1, 4)
    found: list[Tensor] = rpn.filter_proposals(boxes, flat, sizes, per_level)[0]
    return found


def _clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    return torch.stack([boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)], -1).flatten(1)


def _padded(parts: Sequence[Tensor], most: int, filling: float) -> Tensor:
    """(B, most, n) of each image's (regions, n)."""
    return torch.stack([F.pad(one, (0, 0, 0, most - len(one)), value=filling) for one in parts])
