"""Detections as torchvision gives them, a list of dicts of different lengths, as rows of one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ClassRows(nn.Module):
    """A module that ends in detections; columns become classes."""

    decode = "end2end"
    class_of: Tensor

    def __init__(self, columns: int, kept: Sequence[int]) -> None:
        """`columns`: of the class logits; `kept` those that are classes."""
        super().__init__()
        classes = torch.full((columns,), -1)
        classes[list(kept)] = torch.arange(len(kept))
        self.register_buffer("class_of", classes)

    def rows(self, found: Sequence[Mapping[str, Tensor]], most: int) -> Tensor:
        """(B, most, 6): box xyxy px, score, class; rows behind the last detection are zeros."""
        return torch.stack([self._of_one(one, most) for one in found])

    def _of_one(self, found: Mapping[str, Tensor], most: int) -> Tensor:
        classes = self.class_of[found["labels"]]
        rows = torch.cat([found["boxes"], found["scores"][:, None], classes[:, None].to(found["boxes"])], 1)
        rows = rows[classes >= 0]
        return F.pad(rows, (0, 0, 0, most - len(rows)))
