"""MKD: maps at several scales, without some frequencies, and by where channels have their mass.

MKD: Multi-Knowledge Distillation for Real-Time Object Detection on Edge Devices, Xu et al., ACML 2024. No code.

    L = alpha * (L_pool + L_frequency + L_align)          alpha: `weight`

**Reduction**: of each part its own (see `mkd_pool`, `mkd_frequency`, `mkd_align`): all are means over images and
channels, and sums over levels. The parts share one aligner, and each is a term of its own in reports.

Equation 6 also adds L_fea, the difference of both sides' maps. It has no equation of its own and would count twice what
`mkd_pool` has at scale 1, so it is left out here. What else the paper leaves open stands in the three parts; all of it
is chosen here (UNVERIFIED). Measured on `digits` it gains, and less than CWD does: see the card.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels
from edgekd.distill.contract import Distiller, Moment, Pair, Wiring, register
from edgekd.distill.mkd import MKDConfig, aligned_levels, mkd_card
from edgekd.distill.neck.cwd import cwd_loss
from edgekd.distill.neck.mkd_frequency import frequency_mask, mkd_frequency_loss
from edgekd.distill.neck.mkd_pool import Scales, mkd_pool_loss


class MKDAllConfig(MKDConfig):
    """Keys of `mkd`."""

    scales: Scales = Field((1, 2, 4), description="sides of the pooling windows, in cells")
    zeta: float = Field(0.5, ge=0, lt=1, description="share of frequencies that is removed")
    tau: float = Field(1.0, gt=0, description="temperature of the softmax over positions")


@register("mkd")
class MKD(Distiller):
    """Pulls the student's maps to the teacher's in three ways at once."""

    config_type = MKDAllConfig
    card = mkd_card("feature maps at several scales, in the frequency domain, and per channel")
    config: MKDAllConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = aligned_levels(pair, self.config, self.name)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`pool`, `frequency` and `align`."""
        pool, frequency, align = [], [], []
        for ours, theirs in self.levels.maps(student, knowledge):
            mask = frequency_mask(ours.shape, self.config.zeta, moment.generator)
            pool.append(mkd_pool_loss(ours, theirs, self.config.scales))
            frequency.append(mkd_frequency_loss(ours, theirs, mask))
            align.append(cwd_loss(ours, theirs, self.config.tau))
        parts = {"pool": pool, "frequency": frequency, "align": align}
        return {name: torch.stack(losses).sum() for name, losses in parts.items()}
