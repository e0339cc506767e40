"""The sizes in which RTMDet comes."""

from __future__ import annotations

from dataclasses import dataclass

STRIDES = (8, 16, 32)
STACKED_CONVS = 2  # of each of the head's towers
PREFIX = "rtmdet-"


@dataclass(frozen=True)
class Scale:
    """One size of the architecture.

    Attributes:
        width: factor of the backbone's channels 64, 128, 256, 512, 1024.
        depth: factor of its blocks per stage 3, 6, 6, 3.
        neck_blocks: per CSP layer of the neck.
        exponential: the head predicts logarithms of distances; else the distances themselves.
    """

    width: float
    depth: float
    neck_blocks: int
    exponential: bool

    def channels(self, full: int) -> int:
        """Of a layer that has `full` channels at width 1."""
        return int(full * self.width)

    def blocks(self, full: int) -> int:
        """Of a stage that has `full` blocks at depth 1."""
        return max(round(full * self.depth), 1)

    @property
    def levels(self) -> tuple[int, ...]:
        """Channels of the maps that the backbone hands to the neck, finest first."""
        return tuple(self.channels(full) for full in (256, 512, 1024))


# tiny to x: mmdetection 3.3.0, configs/rtmdet. "p" is ours: a third of tiny's width, an eighth of l's, as the p scales
# of YOLO here; tiny's depth already has one block in three of four stages, so there is nothing to take away.
SCALES = {
    "p": Scale(0.125, 0.167, 1, exponential=False),
    "tiny": Scale(0.375, 0.167, 1, exponential=False),
    "s": Scale(0.5, 0.33, 1, exponential=False),
    "m": Scale(0.75, 0.67, 2, exponential=True),
    "l": Scale(1.0, 1.0, 3, exponential=True),
    "x": Scale(1.25, 1.33, 4, exponential=True),
}


def model_names() -> list[str]:
    """`rtmdet-p` to `rtmdet-x`."""
    return [f"{PREFIX}{scale}" for scale in SCALES]
