"""G-DetKD: regions from every level at once, matched by what they hold, and a contrast between regions.

G-DetKD: Towards General Distillation Framework for Object Detectors via Contrastive and Semantic-guided Feature
Imitation, Yao et al., ICCV 2021, arXiv 2108.07482. No official code.

    t_i: RoIAlign of region i on the teacher's level for its size;  s_il: on each level l of the student
    k(x): two 3x3 convolutions of stride 2, shared by both sides, mean over positions, unit length
    a_il = softmax over l of k(f_l(s_il)) . k(t_i) / tau,   f_l: 3x3 convolution, tau learned from 1 on
    S_i = sum over l of a_il f_l(s_il);      L_sgfi = mean over i of mean over c, h, w of (S_i - t_i)^2
    x_i, y_i: means over positions of S_i and t_i, projected by one shared network of two layers
    L_ckd = mean over i of -log( e(x_i, y_i) / (e(x_i, y_i) + sum over negatives k of e(x_i, y_k)) ),
    e = exp(cos / gamma)

**Reduction**: means over elements and over the regions of the batch; L_ckd sums over negatives within its logarithm.

Negatives are the teacher's vectors of the batch's other regions, but not of those that overlap by `negative_iou`, and
those of former steps from all ranks. Strides and heads of the two detectors may differ.

Differs from the paper: regions are ground-truth boxes and the teacher's further detections, there the student's
proposals; keys have unit length; the terms on the predictions of a region head (L_reg, class) and the copy of its
weights have no place on a dense detector. gamma, the size of the memory, the overlap and both factors are ours: the
sources that we could read give none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.regions import Regions
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import find_taps, fp32_island
from edgekd.distill.config import Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.region.contrast import Memory, ckd_loss, too_near
from edgekd.distill.region.shared import RegionConfig, cut_of, region_knowledge
from edgekd.distill.regions import roi_align


class GDetKDConfig(RegionConfig):
    """Keys of `gdetkd`."""

    at_least_one_of: ClassVar[tuple[str, ...]] = ("imitation", "contrast")

    weight: Weight = Field(1.0, description="factor on both terms, each of which has its own")
    regions: Literal["ground_truth", "teacher"] = Field(
        "teacher", description="boxes of the labels, or the teacher's further detections beside them"
    )
    imitation: float = Field(1.0, ge=0, description="factor on L_sgfi; 0 leaves it out")
    contrast: float = Field(1.0, ge=0, description="factor on L_ckd; 0 leaves it out")
    gamma: float = Field(0.07, gt=0, le=1, description="temperature of the contrast")
    memory: int = Field(1024, ge=1, le=65536, description="vectors of former steps that are negatives")
    negative_iou: float = Field(0.5, ge=0, le=1, description="regions that overlap by more are no negatives")
    embedding: int = Field(128, ge=8, le=1024, description="width of keys and of projected vectors")
    uniform_steps: int = Field(0, ge=0, description="steps in which all levels count alike")


@register("gdetkd")
class GDetKD(Distiller):
    """Each region learns from whichever of its levels fits the teacher's, and to be told apart from other regions."""

    config_type = GDetKDConfig
    card = Card(
        about="regions of all levels, matched by content, and a contrast between regions",
        title="G-DetKD: Towards General Distillation Framework for Object Detectors via Contrastive and "
        "Semantic-guided Feature Imitation",
        venue="ICCV 2021",
        level="region",
        arxiv="2108.07482",
        gain="Faster R-CNN R50 to R18 on COCO 34.0 to 37.9 AP; RetinaNet R18 32.6 to 36.3, FCOS R18 30.3 to 35.6",
    )
    config: GDetKDConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`; levels need not have equal strides."""
        config = self.config
        self.student_taps = find_taps("student", pair.student, config.taps, self.name)
        self.teacher_taps = find_taps("teacher", pair.teacher, config.teacher_taps or config.taps, self.name)
        self.cut = cut_of(self.teacher_taps, config)
        width = self.cut.width
        self.adapters = nn.ModuleList(nn.Conv2d(tap.channels, width, 3, padding=1) for tap in self.student_taps)
        self.embed = nn.Sequential(
            nn.Conv2d(width, config.embedding, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(config.embedding, config.embedding, 3, stride=2, padding=1),
        )
        self.logit_scale = nn.Parameter(torch.zeros(()))  # -log tau; the engine does not decay what is called so
        if config.contrast:
            self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.embedding))
            self.memory = Memory(config.memory, config.embedding)
        teacher = Needs(self.teacher_taps)
        return Wiring(Needs(self.student_taps), teacher | config.detections if self._with_detections else teacher)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """See `region_knowledge`."""
        maps = [teacher.taps[tap.key] for tap in self.teacher_taps]
        return region_knowledge(teacher, batch, maps, self.cut, self.config if self._with_detections else None)

    @property
    def _with_detections(self) -> bool:
        return self.config.regions == "teacher"

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`imitation` and `contrast`, each with its own factor; those that have one."""
        regions = Regions(knowledge["boxes"], knowledge["valid"])
        theirs = knowledge["features"][regions.valid]
        channels = self.cut.elements(regions.rows_px) // self.config.size**2
        real = torch.arange(self.cut.width, device=channels.device) < channels[:, None]  # (M, C); the rest is filling
        ours = self._gathered(student, regions, theirs, real, moment.step)
        found = {}
        if self.config.imitation:
            found["imitation"] = self.config.imitation * sgfi_loss(ours, theirs, real)
        if self.config.contrast:
            found["contrast"] = self.config.contrast * self._contrast(ours, theirs, regions, moment.step)
        return found

    def _gathered(self, student: DetectorOutput, regions: Regions, theirs: Tensor, real: Tensor, step: int) -> Tensor:
        """(M, C, size, size): the student's levels at each region, weighed by their likeness to the teacher's."""
        rows = torch.cat([regions.image_index[:, None].float(), regions.rows_px], 1)
        levels = torch.stack([
            adapter(roi_align(student.taps[tap.key], rows, tap.stride, self.config.size)) * real[:, :, None, None]
            for tap, adapter in zip(self.student_taps, self.adapters, strict=True)
        ])  # fmt: skip
        if step < self.config.uniform_steps:
            return levels.mean(0)
        keys = torch.stack([self._key(level) for level in levels])  # (L, M, E)
        weights = ((keys * self._key(theirs)).sum(-1) * self.logit_scale.exp()).softmax(0)
        return (levels * weights[:, :, None, None, None]).sum(0)

    def _key(self, features: Tensor) -> Tensor:
        return F.normalize(self.embed(features).mean((2, 3)).float(), dim=-1, eps=1e-6)

    def _contrast(self, ours: Tensor, theirs: Tensor, regions: Regions, step: int) -> Tensor:
        x, y = (F.normalize(self.project(side.mean((2, 3))).float(), dim=-1, eps=1e-6) for side in (ours, theirs))
        former, usable = self.memory.before(step)
        loss = ckd_loss(x, y, too_near(regions, self.config.negative_iou), former[usable], self.config.gamma)
        self.memory.add(y, step)
        return loss


@fp32_island
def sgfi_loss(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    """Mean squared difference within a region's real channels, averaged over regions.

    Args:
        student, teacher: (M, C, h, w).
        real: (M, C) bool.
    """
    distance = (student - teacher).square().mean((2, 3)) * real  # (M, C)
    return (distance.sum(1) / real.sum(1).clamp_min(1)).sum() / max(len(distance), 1)
