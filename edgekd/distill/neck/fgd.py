"""FGD: focal and global distillation.

Focal and Global Knowledge Distillation for Detectors, Yang et al., CVPR 2022, arXiv 2111.11837.
Code: github.com/yzd-v/FGD.

    S(F) = H W softmax over h, w of (mean over c of |F| / T),   C(F) = C softmax over c of (mean over h, w of |F| / T)
    d = S(F_T) C(F_T) (phi(F_S) - F_T)^2
    L = sum over levels of   foreground * 1/N sum of M_fg d   +   background * 1/N sum of M_bg d
        + attention * 1/N (sum of |S(phi(F_S)) - S(F_T)| + sum of |C(phi(F_S)) - C(F_T)|)
        + context * 1/N sum of (G_S(phi(F_S)) - G_T(F_T))^2

M_fg is 1 / (cells of the box) inside boxes, M_bg 1 / (cells of the background) elsewhere, on every level. G adds to a
map what a global-context block makes of it; both of a level are trained, so `context` must stay small.

**Reduction**: sum over channels and positions, mean over images, sum over levels. Foreground and background sum to the
order of (objects + 1) x C whatever the image size; attention and context grow with H W as well.

Differs from the official code: no bias before the context block's softmax, which cannot see it;
images without labels have no background.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.attention import attentions
from edgekd.distill.box_masks import background_mask, has_labels, scale_mask
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register


class FGDConfig(FeatureConfig):
    """Keys of `fgd`. The factors are those that the authors published for YOLOX."""

    weight: Weight = Field(1.0, description="factor on all four terms")
    temperature: float = Field(0.5, gt=0, le=100, description="of both attentions")
    foreground: float = Field(2e-3, ge=0, description="alpha: 1e-3 RetinaNet and GFL, 1.6e-3 RepPoints and FCOS")
    background: float = Field(1e-3, ge=0, description="beta, half of alpha")
    attention: float = Field(1e-3, ge=0, description="gamma: 5e-4 RetinaNet and GFL, 8e-4 RepPoints and FCOS")
    context: float = Field(1e-5, ge=0, description="lambda: 5e-6 RetinaNet and GFL, 8e-6 RepPoints and FCOS")


class GcBlock(nn.Module):
    """Global context: a map plus one vector per image, made of the positions that a softmax picks. Starts as identity.

    GCNet, Cao et al., ICCV workshops 2019, arXiv 1904.11492.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pick = nn.Linear(channels, 1, bias=False)
        narrow = max(channels // 2, 1)
        self.add = nn.Sequential(
            nn.Linear(channels, narrow), nn.LayerNorm(narrow), nn.ReLU(inplace=True), nn.Linear(narrow, channels)
        )
        nn.init.kaiming_normal_(self.pick.weight)
        for value in self.add[-1].parameters():
            nn.init.zeros_(value)

    def added(self, feature: Tensor) -> Tensor:
        """What is added to each position of an (N, C, H, W) map: (N, C)."""
        cells = feature.flatten(2)  # products and sums below are faster than matmuls as thin as these
        scores = (cells * self.pick.weight.reshape(-1, 1)).sum(1)  # (N, H W)
        vector: Tensor = self.add((cells * scores.softmax(-1).unsqueeze(1)).sum(2))
        return vector

    def forward(self, feature: Tensor) -> Tensor:
        """Of an (N, C, H, W) map, of the same shape."""
        return feature + self.added(feature)[:, :, None, None]


@fp32_island
def fgd_losses(
    student: Tensor, teacher: Tensor, foreground: Tensor, background: Tensor, context: Tensor, temperature: float = 0.5
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Foreground, background, attention and context of one level, unweighted.

    Args:
        student, teacher: (N, C, H, W).
        foreground, background: (N, H, W), the masks.
        context: (N, C), what the student's context block adds, less what the teacher's adds.
    """
    images = student.shape[0]
    (ours, own), (positions, weights) = (attentions(feature, temperature) for feature in (student, teacher))
    difference = (student - teacher).flatten(2)
    squares = difference.square()
    distance = (squares * weights.flatten(2)).sum(1) * positions.flatten(1)
    apart = (ours - positions).abs().sum() + (own - weights).abs().sum()
    # (d + v)^2 summed over positions is sum d^2 + 2 v sum d + H W v^2
    shifted = squares.sum() + (context * (2 * difference.sum(2) + difference.shape[2] * context)).sum()
    inside, outside = ((distance * mask.flatten(1)).sum() for mask in (foreground, background))
    return inside / images, outside / images, apart / images, shifted / images


@register("fgd")
class FGD(Distiller):
    """Imitates objects of all sizes alike, the teacher's attention, and the relations within an image."""

    config_type = FGDConfig
    card = Card(
        about="feature maps by objects and attention, and their global context",
        title="Focal and Global Knowledge Distillation for Detectors",
        venue="CVPR 2022",
        level="neck",
        arxiv="2111.11837",
        code="github.com/yzd-v/FGD",
        gain="YOLOX-l to YOLOX-m on COCO 45.9 to 46.6 AP; RetinaNet X101 to R50 37.4 to 40.7, GFL R101 to R50 40.2 to "
        "43.5 (both with the teacher's neck and head inherited)",
        weight_at="640 px (YOLOX), three levels of 256 channels; grows with them, two terms with the size as well",
    )
    config: FGDConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, "conv1x1", only_if_needed=True)
        widths = [level.teacher.channels for level in self.levels.pairs]
        self.student_context, self.teacher_context = (nn.ModuleList(map(GcBlock, widths)) for _ in range(2))
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`foreground`, `background`, `attention` and `context`, by their factors."""
        rows = []
        for level, (ours, theirs) in enumerate(self.levels.maps(student, knowledge)):
            foreground = scale_mask(batch, (theirs.shape[2], theirs.shape[3]))
            background = background_mask(foreground) * has_labels(batch)
            context = self._added(self.student_context[level], ours) - self._added(self.teacher_context[level], theirs)
            found = fgd_losses(ours, theirs, foreground, background, context, self.config.temperature)
            rows.append(torch.stack(found))
        names = ("foreground", "background", "attention", "context")
        sums = torch.stack(rows).sum(0).unbind()
        return {name: value * getattr(self.config, name) for name, value in zip(names, sums, strict=True)}

    @staticmethod
    def _added(block: nn.Module, feature: Tensor) -> Tensor:
        assert isinstance(block, GcBlock)
        return block.added(feature)
