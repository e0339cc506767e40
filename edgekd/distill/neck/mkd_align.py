"""MKD's third part, feature alignment distillation (FAD): the divergence of CWD on aligned maps.

MKD: Multi-Knowledge Distillation for Real-Time Object Detection on Edge Devices, Xu et al., ACML 2024, eq. 5. No code.

    q = softmax over h, w of F / tau
    L = sum over levels of tau^2 / (N C) * sum over n, c of KL(q_T || q_S)
    F_S behind a 1x1 convolution; both sides standardised per channel (`normalise`)

**Reduction**: sum over positions, mean over n and c, sum over levels.

Equation 5 is that of `cwd`, and so is the code. The paper leaves open, and this is chosen here (UNVERIFIED): tau 1; the
maps of the neck, behind the aligner of RTMDet's distillation in mmyolo. What its prose adds (sums of both sides'
attention, focal and global parts, a further L2 distance) is in no equation, and not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels
from edgekd.distill.contract import Distiller, Moment, Pair, Wiring, register
from edgekd.distill.mkd import MKDConfig, aligned_levels, mkd_card
from edgekd.distill.neck.cwd import cwd_loss


class MKDAlignConfig(MKDConfig):
    """Keys of `mkd_align`."""

    tau: float = Field(1.0, gt=0, description="temperature of the softmax over positions")


@register("mkd_align")
class MKDAlign(Distiller):
    """Moves each student channel's mass to where the teacher's channel has it; the same as `cwd`, normalised."""

    config_type = MKDAlignConfig
    card = mkd_card("where each standardised channel has its mass (one part of MKD; cwd's equation)")
    config: MKDAlignConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = aligned_levels(pair, self.config, self.name)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        return {"feature": self.levels.total(partial(cwd_loss, tau=self.config.tau), student, knowledge)}
