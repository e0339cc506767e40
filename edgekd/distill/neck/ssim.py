"""SSIM: structural similarity of feature maps.

Structural Knowledge Distillation for Object Detection, de Rijk et al., NeurIPS 2022, arXiv 2211.13133. No official
code; the index is that of Image Quality Assessment, Wang et al., IEEE TIP 2004.

    f = (F - min) / (max - min)   per image over c, h, w;   mu, s: mean and variance in a Gaussian window per channel
    SSIM = (2 mu_S mu_T + C1) (2 s_ST + C2) / ((mu_S^2 + mu_T^2 + C1) (s_S^2 + s_T^2 + C2)),   C1 = 0.01^2, C2 = 0.03^2
    L = sum over levels of mean over n, c, h, w of (1 - SSIM) / 2

Luminance, contrast and structure with exponents 1 multiply to this, as C3 = C2 / 2.

**Reduction**: mean over all elements, sum over levels. A level lies in 0..1.

The paper leaves open over what the minimum and maximum are taken: here over an image's whole map, of either side. Maps
are mirrored at their borders. The window of 11 cells (sigma 1.5) shrinks to the largest odd one that fits the map.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field, field_validator
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register

C1, C2 = 0.01**2, 0.03**2


class SSIMConfig(FeatureConfig):
    """Keys of `ssim`."""

    weight: Weight = Field(4.0, description="factor on the sum over levels; the paper's best are 2 and 4")
    window: int = Field(11, ge=3, le=63, description="cells of the Gaussian window, an odd number")
    sigma: float = Field(1.5, gt=0, le=32, description="its standard deviation in cells")

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"must be odd, choose {window - 1} or {window + 1}")
        return window


@fp32_island
def ssim_loss(student: Tensor, teacher: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Half of 1 - SSIM, averaged, of two (N, C, H, W) maps."""
    return (1 - ssim_map(normalised(student), normalised(teacher), window, sigma)).mean() / 2


def normalised(feature: Tensor) -> Tensor:
    """Each image of (N, C, H, W) from 0 to 1."""
    low, high = feature.amin((1, 2, 3), keepdim=True), feature.amax((1, 2, 3), keepdim=True)
    return (feature - low) / (high - low + 1e-6)


def ssim_map(ours: Tensor, theirs: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """SSIM at every position of two (N, C, H, W) maps with values from 0 to 1."""
    moments = torch.stack([ours, theirs, ours * ours, theirs * theirs, ours * theirs])
    smooth = _blurred(moments.flatten(0, 2), window, sigma).reshape(moments.shape)
    mean, other, square, other_square, product = smooth.unbind()
    spread = (square - mean * mean).clamp_min(0) + (other_square - other * other).clamp_min(0)
    common = product - mean * other
    similar = (2 * mean * other + C1) / (mean * mean + other * other + C1)
    return similar * (2 * common + C2) / (spread + C2)


def _blurred(maps: Tensor, window: int, sigma: float) -> Tensor:
    """(M, H, W) maps, mirrored at their borders, under a Gaussian of `window` cells or the largest that fits."""
    height, width = (_blur(size, window, sigma).to(maps) for size in maps.shape[-2:])
    return height @ maps @ width.T


def _blur(size: int, window: int, sigma: float) -> Tensor:
    """(size, size) weights of a line's cells in each blurred cell: a product is 20 times as quick as convolutions."""
    cells = min(window, size - 1 + size % 2)
    offsets = torch.arange(cells, dtype=torch.float64) - cells // 2
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    places = (torch.arange(size)[:, None] + offsets.long()).abs()
    mirrored = size - 1 - (size - 1 - places).abs()
    weights = torch.zeros(size, size, dtype=torch.float64)
    return weights.scatter_add_(1, mirrored, (kernel / kernel.sum()).repeat(size, 1))


@register("ssim")
class SSIM(Distiller):
    """Compares patterns in small windows: their level, their contrast and their structure."""

    config_type = SSIMConfig
    card = Card(
        about="structural similarity of feature maps",
        title="Structural Knowledge Distillation for Object Detection",
        venue="NeurIPS 2022",
        level="neck",
        arxiv="2211.13133",
        gain="RetinaNet R101 to R50 on COCO 36.4 to 40.1 AP, Faster R-CNN R50 from Cascade X101 37.4 to 40.9",
        weight_at="1333x800 px, five levels; a mean, so the value does not depend on the size",
    )
    config: SSIMConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, "conv1x1", only_if_needed=True)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        return {"feature": self.levels.total(self._level, student, knowledge)}

    def _level(self, student: Tensor, teacher: Tensor) -> Tensor:
        return ssim_loss(student, teacher, self.config.window, self.config.sigma)
