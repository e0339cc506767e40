"""Prototypes: a few instances of a class that describe all others well, in the feature spaces of both sides at once.

Distilling Object Detectors with Global Knowledge, Tang et al., ECCV 2022, arXiv 2210.09022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch
from edgekd.distill.adapters import fp32_island
from edgekd.distill.box_masks import pooled
from edgekd.distill.contract import Observation, Survey

DENSITY_WIDTH, SPARSE_SHARE = 0.1, 0.4  # of the official code
_SIDES = ("ours", "theirs")


@fp32_island
def prototype_rows(student: Tensor, teacher: Tensor, count: int = 10, alpha: float = 10.0) -> Tensor:
    """Which instances are prototypes, (count,) int64, by matching pursuit in both spaces; one may come twice.

    Each step takes the instance g by which the residuals r of all are approximated best with weights w that agree:

        w_S = (alpha (u + v) + u) / (1 + 2 alpha),  u = <g_S, r_S>;   w_T likewise with v = <g_T, r_T>
        error = sum over instances of |r_S - w_S g_S|^2 + |r_T - w_T g_T|^2 + alpha (w_S - w_T)^2

    Only instances that lie densely on both sides are asked; if there is none, all.

    Args:
        student, teacher: (I, C_S) and (I, C_T), the same instances; their lengths do not matter.
        alpha: how much the weights must agree.
    """
    ours, theirs = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    dense = (_dense(ours) & _dense(theirs)).nonzero().flatten()
    asked = dense if len(dense) else torch.arange(len(ours), device=ours.device)
    left_ours, left_theirs = ours, theirs
    chosen = []
    for _ in range(count):
        u, v = ours[asked] @ left_ours.T, theirs[asked] @ left_theirs.T  # (asked, I)
        shared = alpha * (u + v)
        w_ours, w_theirs = (shared + u) / (1 + 2 * alpha), (shared + v) / (1 + 2 * alpha)
        explained = w_ours * (w_ours - 2 * u) + w_theirs * (w_theirs - 2 * v) + alpha * (w_ours - w_theirs).square()
        best = explained.sum(1).argmin()
        row = asked[best]
        chosen.append(row)
        left_ours = left_ours - w_ours[best, :, None] * ours[row]
        left_theirs = left_theirs - w_theirs[best, :, None] * theirs[row]
    return torch.stack(chosen)


def fixed_sample(image_ids: Tensor, places: Tensor, class_ids: Tensor, most: int) -> Tensor:
    """Rows of at most `most` instances per class, (n,) int64: always the same ones, whoever holds which of the others.

    A sample of the union of samples is the sample of the whole.

    Args:
        image_ids, places: (I,) int64, the image and which of its boxes.
        class_ids: (I,) int64.
    """
    shuffled = (image_ids * 2654435761 + places * 2246822519) % 4294967291
    by_class = torch.argsort(shuffled, stable=True)
    by_class = by_class[torch.argsort(class_ids[by_class], stable=True)]
    counts = torch.bincount(class_ids)
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    kept = torch.arange(len(by_class), device=first.device) - first < most
    return by_class[kept].sort().values


class PrototypeBank(nn.Module):
    """The prototypes of every class on every level, of length 1, in buffers that are saved with the training.

    Attributes:
        found: (K,) bool, classes that have any.
    """

    found: Tensor

    def __init__(
        self, classes: int, widths: Sequence[tuple[int, int]], count: int, instances: int, alpha: float
    ) -> None:
        """`widths`: channels of student and teacher, per level; `instances`: most per class that are chosen from."""
        super().__init__()
        self.widths, self.count, self.instances, self.alpha = tuple(widths), count, instances, alpha
        self.register_buffer("found", torch.zeros(classes, dtype=torch.bool))
        for level, pair in enumerate(widths):
            for side, channels in zip(_SIDES, pair, strict=True):
                self.register_buffer(f"{side}{level}", torch.zeros(classes, count, channels))

    def of_level(self, level: int) -> tuple[Tensor, Tensor]:
        """Student's and teacher's, (K, P, C) each."""
        ours, theirs = (self.get_buffer(f"{side}{level}") for side in _SIDES)
        return ours, theirs

    def choose(self, survey: Survey, maps: Callable[[Observation], Sequence[tuple[Tensor, Tensor]]]) -> None:
        """Choose all anew.

        Args:
            maps: (B, C, H, W) of student and teacher, per level, of what the survey saw.
        """
        ids, values = [], []
        for seen in survey:
            batch = seen.batch
            owners = batch.view.image_ids[batch.image_index]
            ids.append(torch.stack([owners, _places(batch), batch.class_ids], 1).cpu())
            values.append(torch.cat([pooled(one, batch).float() for pair in maps(seen) for one in pair], 1).cpu())
            if sum(map(len, ids)) > 2 * self.instances * len(self.found):
                ids, values = ([part] for part in self._sampled(torch.cat(ids), torch.cat(values)))
        own = torch.cat(ids), torch.cat(values)
        self._keep(*self._sampled(*(survey.gathered(own[0][:, 0], part) for part in own)))

    def _sampled(self, ids: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        rows = fixed_sample(ids[:, 0], ids[:, 1], ids[:, 2], self.instances)
        return ids[rows], values[rows]

    def _keep(self, ids: Tensor, values: Tensor) -> None:
        for kind in range(len(self.found)):
            own = values[ids[:, 2] == kind].to(self.found.device)
            self.found[kind] = len(own) > 0
            sides = torch.split(own, [width for pair in self.widths for width in pair], 1)
            for level, (ours, theirs) in enumerate(zip(sides[::2], sides[1::2], strict=True)):
                if len(own):
                    chosen = prototype_rows(ours, theirs, self.count, self.alpha)
                    for kept, features in zip(self.of_level(level), (ours, theirs), strict=True):
                        kept[kind] = F.normalize(features[chosen], dim=1)


def _places(batch: Batch) -> Tensor:
    """Which box of its image each one is, (M,)."""
    places = torch.zeros_like(batch.image_index)
    images, columns = (batch.rows >= 0).nonzero(as_tuple=True)
    places[batch.rows[images, columns]] = columns
    return places


def _dense(features: Tensor) -> Tensor:
    """Which of (I, C) unit vectors have more company than the sparsest share of all."""
    company = torch.exp(-((1 - features @ features.T) / DENSITY_WIDTH).square()).sum(1)
    return company > company.sort().values[int(len(company) * SPARSE_SHARE)]
