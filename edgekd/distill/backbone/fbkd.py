"""FKD: attention-guided and non-local distillation; FBKD in mmrazor, AGD-NLD in surveys.

Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and Efficient Detectors, Zhang &
Ma, ICLR 2021. Code: github.com/ArchipLab-LinfengZhang/Object-Detection-Knowledge-Distillation-ICLR2021 and
github.com/open-mmlab/mmrazor (FBKD).

    A(F) = H W softmax over h, w of (mean over c of |F|) / T,   M = (A(F_T) + A(F_S)) / 2, without gradient
    L = sum over levels of   masked   * || sqrt(M) (F_T - phi(F_S)) ||
                           + pooled   * (|| avg_hw F_T - linear(avg_hw F_S) || + || avg_c F_T - conv3x3(avg_c F_S) ||)
                           + relation * || NL_T(F_T) - conv1x1(NL_S(F_S)) ||
    phi: 1x1 convolution; NL: non-local blocks (`NonLocal`), one for either side, both trained

**Reduction**: L2 norms over the whole batch, neither squared nor divided, sum over levels. So a value grows with the
root of N C H W: the published factors hold at 1333x800 px, 256 channels and 2 images a GPU. Elsewhere use `weight:
auto`, which keeps their ratios. `reduction: mean` takes mean squared differences; then no published factor holds.

`temperature` of one-stage students: 0.5 in the paper, 0.1 in its code as its users report (issue 5 there), which also
exchanges the paper's factors of `masked` and `pooled`; mmrazor has them as its code has, and so are they here.
Two-stage students: masked and relation 7e-5, pooled 4e-3.

Differs from the official code: widths of both sides may differ; pooling windows of the non-local blocks are cut to the
map; fewer levels take the first of the published windows 8, 4, 2, 2 and reductions 4, 4, 2, 2; the gradient of a norm
that is zero is zero. mmrazor's blocks pool by 2 once more, as their parent class already does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.attention import spatial_attention
from edgekd.distill.blocks import NonLocal
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register

Reduction = Literal["norm", "mean"]
BLOCKS = ((4, 8), (4, 4), (2, 2), (2, 2))  # reduction and pooling window of non-local blocks, finest level first


class FBKDConfig(FeatureConfig):
    """Keys of `fbkd`."""

    weight: Weight = Field(1.0, description="factor on all three terms")
    masked: float = Field(4e-4, ge=0, description="factor on differences under attention")
    pooled: float = Field(2e-2, ge=0, description="factor on differences of pooled maps")
    relation: float = Field(4e-4, ge=0, description="factor on differences behind the non-local blocks")
    temperature: float = Field(0.5, gt=0, description="of the attention")
    reduction: Reduction = Field("norm", description="of differences: their L2 norm, or the mean of their squares")


@fp32_island
def fbkd_distance(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, reduction: Reduction = "norm"
) -> Tensor:
    """L2 norm of the difference of two tensors of one shape, or its mean square; `mask` weights the squares."""
    difference = student - teacher if mask is None else (student - teacher) * mask.sqrt()
    return torch.linalg.vector_norm(difference) if reduction == "norm" else difference.square().mean()


class Views(nn.Module):
    """How a student's level is looked at: as it is, pooled over positions, over channels, and by its relations."""

    def __init__(self, ours: int, theirs: int, reduction: int, pool: int) -> None:
        super().__init__()
        self.feature = nn.Conv2d(ours, theirs, 1)
        self.channel = nn.Linear(ours, theirs)
        self.spatial = nn.Conv2d(1, 1, 3, padding=1)
        self.relation = nn.Sequential(NonLocal(ours, reduction, pool), nn.Conv2d(ours, theirs, 1))

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        """(N, ours, H, W) to (N, theirs, H, W), (N, theirs), (N, 1, H, W) and (N, theirs, H, W)."""
        pooled = self.channel(feature.mean((2, 3))), self.spatial(feature.mean(1, keepdim=True))
        return self.feature(feature), *pooled, self.relation(feature)


@register("fbkd")
class FBKD(Distiller):
    """Imitates maps where either side is strong, and how positions of a map resemble each other."""

    config_type = FBKDConfig
    card = Card(
        about="maps under attention, and what positions have in common (AGD-NLD)",
        title="Improve Object Detection with Feature-based Knowledge Distillation",
        venue="ICLR 2021",
        level="backbone",
        code="github.com/ArchipLab-LinfengZhang/Object-Detection-Knowledge-Distillation-ICLR2021",
        gain="Faster R-CNN R101 to R50 on COCO 37.4 to 39.3 AP (mmrazor); RetinaNet X101 to R50 37.4 to 39.6 (DetKDS)",
        weight_at="1333x800 px, 256 channels, 2 images a GPU; norms, so the value grows with the root of all three",
    )
    config: FBKDConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, "own", resize=False)
        blocks = [BLOCKS[min(level, len(BLOCKS) - 1)] for level in range(len(self.levels.pairs))]
        pairs = list(zip(self.levels.pairs, blocks, strict=True))
        self.views = nn.ModuleList(
            Views(level.student.channels, level.teacher.channels, *block) for level, block in pairs
        )
        self.relations = nn.ModuleList(NonLocal(level.teacher.channels, *block) for level, block in pairs)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`masked`, `pooled` and `relation`."""
        config, maps = self.config, self.levels.maps(student, knowledge)
        masked, pooled, relation = [], [], []
        for (ours, theirs), views, relate in zip(maps, self.views, self.relations, strict=True):
            own, target = (spatial_attention(each.detach(), config.temperature) for each in (ours, theirs))
            feature, channel, spatial, related = views(ours)
            masked.append(fbkd_distance(feature, theirs, (own + target) / 2, config.reduction))
            pooled.append(fbkd_distance(channel, theirs.mean((2, 3)), reduction=config.reduction))
            pooled.append(fbkd_distance(spatial, theirs.mean(1, keepdim=True), reduction=config.reduction))
            relation.append(fbkd_distance(related, relate(theirs), reduction=config.reduction))
        return {
            "masked": config.masked * torch.stack(masked).sum(),
            "pooled": config.pooled * torch.stack(pooled).sum(),
            "relation": config.relation * torch.stack(relation).sum(),
        }
