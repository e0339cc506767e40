"""Plain modules from images to boxes and scores: what is exported, and what `detect` runs in torch."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from edgekd.detectors.contract import Branch


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
        self.decode = "end2end" if self.end_to_end else "dense"
        self.network = network

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
        head.export, head.format, head.dynamic = True, "onnx", False

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in 0..1."""
        import torch

        rows: Tensor = self.network(images)
        size = torch.tensor([images.shape[3], images.shape[2]], dtype=rows.dtype, device=rows.device)
        centre, half = rows[..., :2] * size, rows[..., 2:4] * size / 2
        return torch.cat([centre - half, centre + half, rows[..., 4:]], -1)


def _inference_copy(module: Any) -> Any:
    copy = deepcopy(module).float().cpu().eval()
    if hasattr(copy, "criterion"):
        copy.criterion = None
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    return copy
