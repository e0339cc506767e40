"""CSKD: cosine-similarity guided distillation of features.

Cosine similarity-guided knowledge distillation for robust object detectors, Park, Kang & Paik, Scientific Reports
14:18888, 2024. Code: github.com/swkdn16/CSKD.

    a = 1 - cos over h, w of (phi(F_S), F_T)   per n, c;     b = 1 - cos over c   per n, h, w
    l = squared * mean over n, c, h, w of a b (phi(F_S) - F_T)^2
        + cosine * (mean over n, c of a + mean over n, h, w of b)
    L = sum over levels of l(whole maps) + l(7 x 7 RoIAlign of every box) + l(inside boxes) + l(outside boxes)

Where maps are compared inside or outside boxes, everything else is set to zero, and sums over positions are divided by
the positions that are left (that of b by their number times C, as the code does).

**Reduction**: means over images, channels and positions, or over boxes in place of images, sum over levels and parts.
The value depends on neither batch, width nor image size. A part without any box or any background is 0.

Differs from the official code: the head's parts (towers, predictions, an assistant branch) are left out; the sum of b
inside and outside boxes leaves out the positions that were set to zero, a constant; without boxes the code gives NaN;
images without labels have no outside.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.box_masks import box_mask, boxes_in_cells, has_labels
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.regions import roi_align

ROI_CELLS = 7


class CSKDConfig(FeatureConfig):
    """Keys of `cskd`. The factors are those of GFL."""

    weight: Weight = Field(1.0, description="factor on all four terms")
    squared: float = Field(1.0, ge=0, description="of the squared difference that the cosines guide")
    cosine: float = Field(0.5, ge=0, description="of the cosine distances themselves")


@fp32_island
def cskd_loss(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, squared: float = 1.0, cosine: float = 0.5
) -> Tensor:
    """The loss l of two maps, or of many boxes' maps.

    Args:
        student, teacher: (N, C, H, W).
        mask: (N, H, W) of 0 and 1, the positions that count; None: all.
        squared, cosine: the two factors.
    """
    if not student.numel() or (mask is not None and not mask.any()):
        return student.sum() * 0
    if mask is not None:
        student, teacher = (feature * mask.unsqueeze(1) for feature in (student, teacher))
    over_positions = 1 - F.cosine_similarity(student.flatten(2), teacher.flatten(2), dim=2, eps=1e-6)  # (N, C)
    over_channels = 1 - F.cosine_similarity(student, teacher, dim=1, eps=1e-6)  # (N, H, W)
    apart = (student - teacher).square() * (over_positions[:, :, None, None] * over_channels.unsqueeze(1)).abs()
    if mask is None:
        return squared * apart.mean() + cosine * (over_positions.mean() + over_channels.mean())
    values = mask.sum() * student.shape[1]
    positions = (over_channels * mask).sum() / values
    return squared * apart.sum() / values + cosine * (over_positions.mean() + positions)


def rois(feature: Tensor, batch: Batch) -> Tensor:
    """Every box of a batch cut out of its image's map and resampled, (M, C, 7, 7)."""
    cells = boxes_in_cells(batch, (feature.shape[2], feature.shape[3]))
    rows = torch.cat([batch.image_index[:, None].to(cells.dtype), cells], 1)
    return roi_align(feature, rows, 1, ROI_CELLS)  # of a stride of 1: the boxes are in cells already


@register("cskd")
class CSKD(Distiller):
    """Imitates features most where direction differs most: on whole maps, per object, and in the background."""

    config_type = CSKDConfig
    card = Card(
        about="feature maps, guided by the cosine between them",
        title="Cosine similarity-guided knowledge distillation for robust object detectors",
        venue="Scientific Reports 14, 2024",
        level="neck",
        code="github.com/swkdn16/CSKD",
        gain="GFL R101 to R50 on COCO 40.2 to 44.5 AP, RetinaNet 37.4 to 40.2, FCOS 40.9 to 42.0 (with the head)",
        weight_at="1333x480 to 1333x800 px, five levels; means, so the value does not depend on the size",
    )
    config: CSKDConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, "conv1x1")
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`, `box`, `object` and `background`."""
        rows = [self._level(ours, theirs, batch) for ours, theirs in self.levels.maps(student, knowledge)]
        sums = torch.stack(rows).sum(0).unbind()
        return dict(zip(("feature", "box", "object", "background"), sums, strict=True))

    @fp32_island
    def _level(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        inside = box_mask(batch, (teacher.shape[2], teacher.shape[3]), last=True)
        parts: list[tuple[Tensor, Tensor, Tensor | None]] = [
            (student, teacher, None),
            (rois(student, batch), rois(teacher, batch), None),
            (student, teacher, inside),
            (student, teacher, (1 - inside) * has_labels(batch)),
        ]
        return torch.stack([cskd_loss(*part, self.config.squared, self.config.cosine) for part in parts])
