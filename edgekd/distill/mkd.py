"""What the parts of MKD have in common: its keys, the aligner of both sides, and where it comes from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgekd.distill.adapters import Levels
from edgekd.distill.config import StandardisedConfig, Weight
from edgekd.distill.contract import Card, Pair


class MKDConfig(StandardisedConfig):
    """Keys of every part of MKD, and of all together."""

    weight: Weight = Field(1.0, description="factor on the sum over levels; the paper's alpha")
    normalise: Literal["none", "channel"] = Field(
        "channel", description="channel: both sides are standardised per channel first"
    )


def aligned_levels(pair: Pair, config: MKDConfig, method: str) -> Levels:
    """Levels of equal stride with a 1x1 convolution on the student, both sides standardised per channel.

    The paper does not say what its aligner is; this is that of RTMDet's distillation in mmyolo.
    """
    plain = config.normalise == "none"
    return Levels.of(pair, config, method, "conv1x1_norm", only_if_needed=plain, resize=False, standardised=config)


def mkd_card(about: str) -> Card:
    """The paper's, for one part of it or the whole."""
    return Card(
        about=about,
        title="MKD: Multi-Knowledge Distillation for Real-Time Object Detection on Edge Devices",
        venue="ACML 2024",
        level="neck",
        gain=(
            "all parts together, RTMDet s to tiny on COCO 41.1 to 41.8 AP, m to s 44.6 to 45.7: the very figures that "
            "mmyolo publishes for cwd alone"
        ),
        weight_at="640 px, alpha; the paper does not state the reductions that it belongs to",
    )
