"""The teacher's best class score per position of each tap: where feature methods look without ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import DenseHead
from edgekd.distill.adapters import LevelPair
from edgekd.distill.contract import Pair
from edgekd.distill.masks import confidence
from edgekd.errors import InputError


@dataclass(frozen=True)
class ScoreMaps:
    """Which level of the teacher's head each of its taps has its scores from.

    Attributes:
        level_of: key of a tap -> index of the head's level of the same stride.
    """

    level_of: Mapping[str, int]

    @classmethod
    def of(cls, pair: Pair, levels: Sequence[LevelPair], method: str) -> ScoreMaps:
        """Of the taps that a method reads, from a teacher with a dense head.

        Raises:
            InputError: a tap whose stride has no scores.
        """
        assert isinstance(pair.teacher.head, DenseHead)
        strides = pair.teacher.head.strides
        for level in levels:
            if level.teacher.stride not in strides:
                raise InputError(
                    f"{method}: tap {level.teacher.path} has stride {level.teacher.stride}, but teacher "
                    f"{pair.teacher.name} has scores at strides {', '.join(map(str, strides))}; "
                    "choose taps of these strides"
                )
        return cls({level.teacher.key: strides.index(level.teacher.stride) for level in levels})

    def knowledge(self, teacher: DetectorOutput) -> dict[str, Tensor]:
        """`score:<key>` (N, H, W) for each tap: of the mean of the branches' logits, over known classes."""
        branches = list(teacher.dense.values())
        sizes = branches[0].level_sizes
        best = confidence(*branches)
        cells = [height * width for height, width in sizes]
        anchors = best.shape[1] // sum(cells)
        per_level = torch.split(best, [count * anchors for count in cells], dim=1)
        maps = {key: per_level[level].reshape(-1, *sizes[level], anchors) for key, level in self.level_of.items()}
        # one anchor: a view, not a copy, whose sums would be rounded in another order
        return {f"score:{key}": one.squeeze(-1) if anchors == 1 else one.amax(-1) for key, one in maps.items()}

    def read(self, knowledge: Mapping[str, Tensor], level: LevelPair) -> Tensor:
        """The scores (N, H, W) of a pair's teacher, from what `knowledge` gave."""
        return knowledge[f"score:{level.teacher.key}"]
