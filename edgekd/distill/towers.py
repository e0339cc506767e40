"""A student's tower features through the rest of the frozen teacher's tower."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import Branch, Part, Spec, Tap
from edgekd.distill.adapters import channel_adapter, fp32_island
from edgekd.distill.contract import Pair
from edgekd.distill.points import SharedPoints


class CrossTower(nn.Module):
    """The towers of one part and one pair of branches, over the shared levels.

    Behind the first layer of the student's tower its features get the teacher's width (a 1x1 convolution where they
    have another) and the teacher's statistics per channel, and go through the rest of the teacher's tower.

    Attributes:
        student_taps, teacher_taps: per shared level.
    """

    def __init__(self, pair: Pair, points: SharedPoints, part: Part, branch: Branch, source: Branch) -> None:
        super().__init__()
        self.student_taps = _first(pair.student, part, branch, points.student_levels)
        self.teacher_taps = _first(pair.teacher, part, source, points.teacher_levels)
        widths = [
            (ours.channels, theirs.channels) for ours, theirs in zip(self.student_taps, self.teacher_taps, strict=True)
        ]
        self.adapters = nn.ModuleList(  # no bias: the alignment would remove it
            channel_adapter(ours, theirs, "none" if ours == theirs else "conv1x1_norm") for ours, theirs in widths
        )
        self._tails = [pair.head_tail(part, level, 1, source) for level in points.teacher_levels]

    def knowledge(self, teacher: DetectorOutput) -> dict[str, Tensor]:
        """`mean:<key>` and `variance:<key>` (B, C) of every tap, over the positions of each image."""
        kept: dict[str, Tensor] = {}
        for tap in self.teacher_taps:
            variance, mean = torch.var_mean(teacher.taps[tap.key].float(), (2, 3), correction=0)
            kept |= {f"mean:{tap.key}": mean, f"variance:{tap.key}": variance}
        return kept

    def forward(self, student: DetectorOutput, knowledge: Mapping[str, Tensor]) -> Tensor:
        """The teacher's predictions (B, A, channels) from the student's features, points as the shared ones."""
        found = []
        rows = zip(self.student_taps, self.teacher_taps, self.adapters, self._tails, strict=True)
        for ours, theirs, adapter, tail in rows:
            feature = adapter(_in_the_teachers_layout(student.taps[ours.key]))
            aligned = align(feature, knowledge[f"mean:{theirs.key}"], knowledge[f"variance:{theirs.key}"])
            found.append(tail(aligned).permute(0, 2, 3, 1).flatten(1, 2))
        return torch.cat(found, 1)


@fp32_island
def align(student: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """A map (N, C, H, W) with another mean and variance per channel, over batch and positions.

    Args:
        mean, variance: (N, C), of each image of the map that it shall be like.
    """
    centre = mean.mean(0)
    spread = (variance.mean(0) + mean.var(0, correction=0)).sqrt()  # within images and between them
    if student.numel() == student.shape[1]:  # one value per channel is its own mean
        return student * 0 + centre[:, None, None]
    return F.batch_norm(student, None, None, spread, centre, training=True, eps=1e-12)


def _in_the_teachers_layout(feature: Tensor) -> Tensor:
    """On a CPU a teacher's weights lie channels last; layers that change between layouts take twice as long."""
    return feature.contiguous(memory_format=torch.channels_last) if feature.device.type == "cpu" else feature


def _first(spec: Spec, part: Part, branch: Branch, levels: tuple[int, ...]) -> tuple[Tap, ...]:
    towers = [spec.tower(part, level, branch) for level in levels]
    return tuple(tower.taps[0] for tower in towers if tower is not None)
