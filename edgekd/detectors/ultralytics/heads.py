"""Plain modules from images to boxes and scores: what is exported, and what `detect` runs in torch."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.spec import Branch


class DenseExport(nn.Module):
    """A dense head without NMS (`one2many`) or with the head's own top-k (`one2one`).

    Output: boxes (B, N, 4) xyxy px and scores (B, N, K); or detections (B, k, 6) = x1 y1 x2 y2 score class.
    """

    def __init__(self, module: Any, branch: Branch) -> None:
        super().__init__()
        self.end_to_end = branch == "one2one"
        network = _inference_copy(module)
        head = network.model[-1]
        head.end2end = self.end_to_end
        network.fuse(verbose=False)
        head.xyxy, head.export, head.format, head.dynamic = True, True, "onnx", True
        head.get_topk_index = partial(_best, head.nc)
        self.decode = "end2end" if self.end_to_end else "dense"
        self.network = network
        self.eval()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in 0..1."""
        raw: Tensor = self.network(images)
        if self.end_to_end:
            return raw
        rows = raw.transpose(1, 2)
        return rows[..., :4], rows[..., 4:]


class QueryExport(nn.Module):
    """RT-DETR: the decoder's last layer, best queries first. Output (B, k, 6), boxes in px."""

    decode = "end2end"

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.network = _inference_copy(module)
        head = self.network.model[-1]
        head.export, head.format, head.dynamic = True, "onnx", True
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in 0..1."""
        rows: Tensor = self.network(images)
        height, width = images.shape[2:]
        x, y, half_width, half_height = rows[..., 0:1], rows[..., 1:2], rows[..., 2:3] / 2, rows[..., 3:4] / 2
        edges = (
            (x - half_width) * width,
            (y - half_height) * height,
            (x + half_width) * width,
            (y + half_height) * height,
        )
        return torch.cat([*edges, rows[..., 4:]], -1)


def _best(class_count: int, scores: Tensor, max_det: int) -> tuple[Tensor, Tensor, Tensor]:
    """The engine's top-k of (B, A, K) scores, with a k that follows the input's size in an exported graph.

    Returns:
        scores (B, k, 1), classes (B, k, 1), and the points (B, k) that they come from.
    """
    k: Any = torch._shape_as_tensor(scores)[1].clamp(max=max_det)  # a tensor, so that tracing keeps the arithmetic
    points = scores.amax(-1).topk(k, dim=1)[1]
    kept = scores.gather(1, points[..., None].expand(-1, -1, class_count))
    best, index = kept.flatten(1).topk(k, dim=1)
    return best[..., None], (index % class_count)[..., None].float(), points.gather(1, index // class_count)


def _inference_copy(module: Any) -> Any:
    copy = deepcopy(module).float().cpu().eval()
    if hasattr(copy, "criterion"):
        copy.criterion = None
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    return copy
