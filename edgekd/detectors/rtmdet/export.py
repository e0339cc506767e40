"""The plain module from images to boxes and scores: what is exported, and what `detect` runs in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekd.detectors.rtmdet.decode import boxes_px, grid
from edgekd.detectors.rtmdet.fusion import fused_copy
from edgekd.detectors.rtmdet.network import RTMDet
from edgekd.detectors.rtmdet.scales import STRIDES


class DenseExport(nn.Module):
    """Without NMS: boxes (B, A, 4) xyxy px and scores (B, A, K).

    The order of the colours is turned in the first convolution's weights, not in the image: a graph then begins with
    one multiplication and one subtraction per channel.
    """

    decode = "dense"
    factor: Tensor
    shift: Tensor

    def __init__(self, network: RTMDet) -> None:
        super().__init__()
        copy = fused_copy(network).float().cpu().requires_grad_(False)
        factor, shift = 255 / copy.std, copy.mean / copy.std
        if copy.has_colours:
            first = copy.backbone.stem[0].conv
            assert isinstance(first, nn.Conv2d)
            first.weight = nn.Parameter(first.weight.flip(1).contiguous(), requires_grad=False)
            factor, shift = factor.flip(1), shift.flip(1)
        self.register_buffer("factor", factor)
        self.register_buffer("shift", shift)
        self.backbone, self.neck, self.head = copy.backbone, copy.neck, copy.bbox_head
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in 0..1, three channels as RGB."""
        features = self.neck(self.backbone(images * self.factor - self.shift))
        sizes = [(feature.shape[2], feature.shape[3]) for feature in features]
        points, strides = grid(sizes, STRIDES, images.device)
        boxes = boxes_px(self.head.distances(features), points, strides)
        scores: Tensor = torch.sigmoid(self.head.class_logits(features)).transpose(1, 2)
        return boxes, scores
