"""MKD's second part: the student's map, with a random part of its frequencies removed, compared with the teacher's.

MKD: Multi-Knowledge Distillation for Real-Time Object Detection on Edge Devices, Xu et al., ACML 2024, eq. 2 to 4. No
code.

    R ~ U(0, 1)^(N x 1 x H x W),  M = 1 where R >= zeta or the frequency is zero, else 0
    L = sum over levels of mean over n, c, h, w of (F_T - IFFT(M FFT(phi(F_S))))^2
    phi: 1x1 convolution; both sides standardised per channel (`normalise`)

**Reduction**: mean over all elements of a level, sum over levels. Two unrelated standardised maps give about 2 - zeta a
level; the teacher's own map gives about zeta, since what was removed is missing: the value has a floor.

The paper leaves open, and this is chosen here (UNVERIFIED): zeta 0.5; one mask per image and level, for all channels,
drawn anew in each step; the zero frequency (a channel's mean) is always kept; opposite frequencies share their fate, so
that the filtered map is real (a mask over the full plane, as in eq. 3, gives a complex one, and the paper does not say
what becomes of it); the aligner, which is that of RTMDet's distillation in mmyolo. `generate: true` lets a network as
MGD's fill in what was removed, which the paper does not have: without one the student itself must contain it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.blocks import generator
from edgekd.distill.contract import Distiller, Moment, Pair, Wiring, register
from edgekd.distill.masks import random_mask
from edgekd.distill.mkd import MKDConfig, aligned_levels, mkd_card
from edgekd.distill.neck.fitnet import fitnet_loss


class MKDFrequencyConfig(MKDConfig):
    """Keys of `mkd_frequency`."""

    zeta: float = Field(0.5, ge=0, lt=1, description="share of frequencies that is removed")
    generate: bool = Field(False, description="let a network as MGD's fill in what was removed")


def frequency_mask(shape: torch.Size, zeta: float, draws: torch.Generator) -> Tensor:
    """Which frequencies of real (N, C, H, W) maps stay: ones and zeros (N, 1, H, W // 2 + 1), as `rfft2` lays them out.

    Rows u and H - u are equal in the columns that hold both of two opposite frequencies: the first and, of even widths,
    the last.
    """
    images, _, height, width = shape
    mask = random_mask((images, 1, height, width // 2 + 1), zeta, draws)
    rows = torch.arange(height, device=mask.device)
    first_of_twins = torch.minimum(rows, (height - rows) % height)
    for column in {0, width // 2} if width % 2 == 0 else {0}:
        mask[..., column] = mask[:, :, first_of_twins, column]
    mask[..., 0, 0] = 1.0
    return mask


@fp32_island
def filtered(feature: Tensor, mask: Tensor) -> Tensor:
    """Real (N, C, H, W) without the frequencies where `mask` (N, 1, H, W // 2 + 1) is zero."""
    kept: Tensor = torch.fft.irfft2(torch.fft.rfft2(feature) * mask, s=feature.shape[-2:])
    return kept


@fp32_island
def mkd_frequency_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of the filtered student map and the teacher's, both (N, C, H, W); `mask` as above."""
    return F.mse_loss(filtered(student, mask), teacher)


@register("mkd_frequency")
class MKDFrequency(Distiller):
    """Pulls the student's map to the teacher's with random frequencies removed, so that none carries it alone."""

    config_type = MKDFrequencyConfig
    card = mkd_card("feature maps without a random part of the student's frequencies (one part of MKD)")
    config: MKDFrequencyConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = aligned_levels(pair, self.config, self.name)
        widths = [level.teacher.channels for level in self.levels.pairs] if self.config.generate else []
        self.generators = nn.ModuleList(generator(width) for width in widths)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        losses = []
        for level, (ours, theirs) in enumerate(self.levels.maps(student, knowledge)):
            mask = frequency_mask(ours.shape, self.config.zeta, moment.generator)
            if self.config.generate:
                losses.append(fitnet_loss(self.generators[level](filtered(ours, mask)), theirs))
            else:
                losses.append(mkd_frequency_loss(ours, theirs, mask))
        return {"feature": torch.stack(losses).sum()}
