"""What the heads of RetinaNet, FCOS and SSD say, in one form: logits whose sigmoid is the score that torchvision gives.

    RetinaNet   score = sigmoid(z)                        logit = z
    FCOS        score = sqrt(sigmoid(z) * sigmoid(c))     c the centerness
    SSD         score = softmax(z)_k                      over all columns, the background's included

The last two become log(p / (1 - p)) of their score p (see `log_odds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.detectors.log_odds import log_odds
from edgekd.detectors.spec import Part
from edgekd.detectors.torchvision.models import Kind


def features(network: Any, images: Tensor) -> list[Tensor]:
    """The maps that the head reads, finest first, of RGB (B, C, H, W) in 0..1 that are resized no more."""
    pixels = (images - network.pixel_mean) / network.pixel_std
    if hasattr(network.backbone, "scale_weight"):  # SSD300: as far as an image of any size has whole cells
        maps = [network.backbone.features(pixels)]
        for block in network.backbone.extra[:3]:
            maps.append(block(maps[-1]))
        return maps
    found: Mapping[str, Tensor] = network.backbone(pixels)
    return list(found.values())


def outputs(
    network: Any, kind: Kind, maps: Sequence[Tensor], parts: frozenset[Part], columns: Sequence[int]
) -> dict[str, Tensor]:
    """`scores` (B, A, K), logits of the kept columns, and `boxes` (B, A, 4) as the head codes them, if asked for.

    FCOS has its centerness from the tower of the boxes, which therefore runs for class logits, too.
    """
    found: dict[str, Tensor] = {}
    boxes = centerness = None
    if "boxes" in parts or (kind == "fcos" and "class_logits" in parts):
        boxes = network.head.regression_head(list(maps))
        if kind == "fcos":
            boxes, centerness = boxes
    if "class_logits" in parts:
        logits = network.head.classification_head(list(maps))
        if kind == "ssd":
            logits = log_odds(F.log_softmax(logits.float(), -1))
        elif centerness is not None:
            logits = log_odds((F.logsigmoid(logits.float()) + F.logsigmoid(centerness.float())) / 2)
        kept = list(columns)
        found["scores"] = logits if kept == list(range(logits.shape[-1])) else logits[..., kept]
    if "boxes" in parts and boxes is not None:
        found["boxes"] = boxes
    return found


def anchors(network: Any, sizes: Sequence[tuple[int, int]], images: Tensor) -> Tensor:
    """Boxes (A, 4) xyxy px that torchvision places for an image of this size with maps of these (H, W)."""
    from torchvision.models.detection.image_list import ImageList

    height, width = images.shape[-2:]
    one = images.new_empty((1, 1, height, width), dtype=torch.float32)
    maps = [one.new_empty((1, 1, *size)) for size in sizes]
    found: list[Tensor] = network.anchor_generator(ImageList(one, [(height, width)]), maps)
    return found[0]


def decoded(network: Any, codes: Tensor, around: Tensor, images: Tensor) -> Tensor:
    """Boxes (B, A, 4) xyxy px, clipped to the image, of codes (B, A, 4) at anchors (A, 4)."""
    coder: Any = network.box_coder
    batch, count = codes.shape[:2]
    codes, around = codes.float().reshape(-1, 4), around.expand(batch, count, 4).reshape(-1, 4)
    boxes: Tensor = (
        coder.decode_single(codes, around) if hasattr(coder, "decode_single") else coder.decode(codes, around)
    )
    height, width = images.shape[-2:]
    boxes = boxes.reshape(batch, count, 4)
    return torch.stack([boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)], -1).flatten(-2)


class DenseExport(nn.Module):
    """Images (B, C, H, W) in 0..1 to boxes (B, A, 4) xyxy px and scores (B, A, K), without NMS."""

    decode = "dense"

    def __init__(self, network: nn.Module, kind: Kind, columns: Sequence[int]) -> None:
        super().__init__()
        self.network, self.kind, self.columns = network, kind, tuple(columns)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        maps = features(self.network, images)
        found = outputs(self.network, self.kind, maps, frozenset({"class_logits", "boxes"}), self.columns)
        around = anchors(self.network, [(one.shape[2], one.shape[3]) for one in maps], images)
        return decoded(self.network, found["boxes"], around, images), found["scores"].sigmoid()
