"""Mimic: features of regions.

Mimicking Very Efficient Network for Object Detection, Li, Jin & Yan, CVPR 2017. No official code.

    L = 1 / (2 M) * sum over M regions i of 1 / m_i * ||u_i - v_i||^2
    u_i: RoIAlign of the teacher's map, v_i: of phi(F_S), phi: 1x1 convolution;  m_i: elements of a region

**Reduction**: mean over the elements of a region, half of it, mean over the regions of the batch.

Differs from the paper: regions are ground-truth boxes, or the teacher's own detections beside them, as a dense student
has no proposals; RoIAlign of 7 x 7 cells on the level that the size of the box chooses, where the paper pools one map;
the paper's factor is not known to us, 1 is ours. A 1x1 convolution stands for the paper's layer of transformation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import fp32_island
from edgekd.distill.config import Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.region.shared import RegionConfig, RegionLevels


class MimicConfig(RegionConfig):
    """Keys of `mimic`."""

    weight: Weight = Field(1.0, description="factor; the features' scale decides how much it is")
    regions: Literal["ground_truth", "teacher"] = Field(
        "ground_truth", description="boxes of the labels, or the teacher's further detections beside them"
    )


@fp32_island
def mimic_loss(student: Tensor, teacher: Tensor, elements: Tensor) -> Tensor:
    """Half the mean squared difference within a region, averaged over regions.

    Args:
        student, teacher: (M, C, h, w), zeros where a level has fewer channels than C.
        elements: (M,) values of a region that are features.
    """
    distance = (student - teacher).square().flatten(1).sum(1) / elements  # (M,)
    return 0.5 * distance.sum() / max(len(distance), 1)


@register("mimic")
class Mimic(Distiller):
    """Teaches what the teacher's pyramid holds at the objects, and nothing of the background."""

    config_type = MimicConfig
    card = Card(
        about="features of regions, mean squared difference",
        title="Mimicking Very Efficient Network for Object Detection",
        venue="CVPR 2017",
        level="region",
    )
    config: MimicConfig
    levels: RegionLevels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = RegionLevels(pair, self.config, self.name, with_detections=self.config.regions == "teacher")
        return self.levels.wiring()

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """See `RegionLevels.knowledge`."""
        return self.levels.knowledge(teacher, batch)

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        regions, teacher = self.levels.known(knowledge)
        ours = self.levels.of_student(student, regions)
        return {"feature": mimic_loss(ours, teacher, self.levels.cut.elements(regions.rows_px))}
