"""The contrast between regions of G-DetKD, and the vectors of former steps that it has as negatives."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd import ranks
from edgekd.detectors.regions import Regions, overlaps
from edgekd.distill.adapters import fp32_island

PER_STEP = 80  # vectors that a rank gives at most


@fp32_island
def ckd_loss(student: Tensor, teacher: Tensor, excluded: Tensor, former: Tensor, gamma: float = 0.07) -> Tensor:
    """InfoNCE between regions.

    Args:
        student, teacher: (M, D) of the same regions, of unit length.
        excluded: (M, M) bool, pairs of regions that are no negatives of each other.
        former: (Q, D), further negatives.
        gamma: temperature.
    """
    if not len(student):
        return student.sum() * 0
    itself = torch.eye(len(student), dtype=torch.bool, device=student.device)
    likeness = student @ teacher.T / gamma
    negatives = likeness.masked_fill(excluded & ~itself, float("-inf"))  # the positive stands on the diagonal
    everything = torch.cat([negatives, student @ former.T / gamma], 1)
    return F.cross_entropy(everything, torch.arange(len(student), device=student.device))


def too_near(regions: Regions, most_iou: float) -> Tensor:
    """(M, M) bool: regions of one image that overlap by more."""
    image, place = regions.valid.nonzero().unbind(1)
    near = overlaps(regions, regions) > most_iou  # (B, R, R)
    return (image[:, None] == image) & near[image[:, None], place[:, None], place]


class Memory(nn.Module):
    """A ring of vectors. It is part of the state, so a resumed training has the negatives of the uninterrupted one.

    All ranks hold the same: each gives its own vectors, and gets those of all. They are called together.
    """

    vectors: Tensor
    steps: Tensor
    place: Tensor

    def __init__(self, capacity: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(capacity, width))
        self.register_buffer("steps", torch.full((capacity,), -1, dtype=torch.int64))  # in which each came; -1: none
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))  # of the next one

    def before(self, step: int) -> tuple[Tensor, Tensor]:
        """A copy of all vectors (Q, D), and which (Q,) are of former steps."""
        return self.vectors.clone(), (self.steps >= 0) & (self.steps < step)

    @torch.no_grad()
    def add(self, vectors: Tensor, step: int) -> None:
        """Keep (M, D) vectors of a step in place of the oldest; what is not finite is left out."""
        vectors = _of_all_ranks(vectors.detach().float()[:PER_STEP])[: len(self.vectors)]
        rows = (self.place + torch.arange(len(vectors), device=self.place.device)) % len(self.vectors)
        self.vectors.index_copy_(0, rows, vectors)
        self.steps.index_fill_(0, rows, step)
        self.place.copy_((self.place + len(vectors)) % len(self.vectors))


def _of_all_ranks(vectors: Tensor) -> Tensor:
    """The finite ones of every rank's (M, D), in the order of the ranks."""
    vectors = vectors[vectors.isfinite().all(1)]
    if ranks.size() == 1:
        return vectors
    block = vectors.new_zeros(PER_STEP, vectors.shape[1] + 1)  # as many from each rank; the last column marks them
    block[: len(vectors), :-1] = vectors
    block[: len(vectors), -1] = 1
    blocks = [torch.empty_like(block) for _ in range(ranks.size())]
    dist.all_gather(blocks, block)
    everything = torch.cat(blocks)
    return everything[everything[:, -1] > 0, :-1]
