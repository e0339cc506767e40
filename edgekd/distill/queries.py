"""What the methods on queries share: who learns from whom, losses between predictions, and memory level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.spec import QueryHead
from edgekd.distill.adapters import channel_adapter, fp32_island
from edgekd.distill.boxes import box_loss, centred
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Pair
from edgekd.distill.matching import SPENT, Matches, giou_cost, l1_cost, match_layers
from edgekd.errors import InputError

LayerChoice: TypeAlias = Literal["all", "last"] | tuple[int, ...]


class QueryConfig(DistillerConfig):
    """Keys of methods that compare predictions of queries."""

    layers: LayerChoice = Field(
        "all", description="decoder layers of the student that learn: all, last, or their numbers from 0"
    )
    classes: float = Field(1.0, ge=0, description="factor on classes")
    l1: float = Field(5.0, ge=0, description="factor on the L1 distance of boxes, relative to the image")
    giou: float = Field(2.0, ge=0, description="factor on 1 - GIoU")


def layer_pairs(pair: Pair, layers: LayerChoice, method: str) -> tuple[tuple[int, int], ...]:
    """Layers of the student, each with the teacher's that lies as deep: the last learns from the last.

    Raises:
        InputError: the student has no such layer.
    """
    student, teacher = pair.student.head, pair.teacher.head
    assert isinstance(student, QueryHead)
    assert isinstance(teacher, QueryHead)
    count, others = student.layers, teacher.layers
    chosen = {"all": tuple(range(count)), "last": (count - 1,)}.get(layers) if isinstance(layers, str) else layers
    wrong = [layer for layer in chosen or (-1,) if not 0 <= layer < count]
    if wrong or chosen is None:
        raise InputError(
            f"{method}: layers: student {pair.student.name} has decoder layers 0 to {count - 1}, given "
            f"{', '.join(map(str, layers))}; choose some of these"
        )
    return tuple((layer, -(-(layer + 1) * others // count) - 1) for layer in dict.fromkeys(chosen))


def content_adapter(source: int, target: int) -> nn.Module:
    """From content of one width to that of another: nothing where they are equal, else a linear layer."""
    return nn.Identity() if source == target else nn.Linear(source, target)


@dataclass(frozen=True)
class Answers:
    """Predictions to compare, row by row.

    Attributes:
        logits: (..., K).
        boxes_px: (..., 4).
    """

    logits: Tensor
    boxes_px: Tensor

    @classmethod
    def of_layer(cls, queries: QueryPredictions, layer: int) -> Answers:
        """(B, Q, ...) of one decoder layer, counted from 0."""
        row = queries.layers.index(layer)
        return cls(queries.class_logits[row], queries.boxes_px[row])


def agreement(
    ours: Answers, theirs: Answers, weights: Tensor, batch: Batch, config: QueryConfig, known: Tensor | None
) -> dict[str, Tensor]:
    """`class`, `l1` and `giou` with their factors: means over rows, each with its weight (...).

    Sums of weights below 1 count as 1: a teacher that sees nothing teaches nothing.
    """
    total = weights.sum().clamp_min(1.0)
    apart = (
        ("class", config.classes, bernoulli_kl(ours.logits, theirs.logits, known)),
        ("l1", config.l1, l1_distance(ours.boxes_px, theirs.boxes_px, batch)),
        ("giou", config.giou, box_loss(ours.boxes_px, theirs.boxes_px)),
    )
    return {name: factor * (weights * value).sum() / total for name, factor, value in apart}


@fp32_island
def bernoulli_kl(ours: Tensor, theirs: Tensor, known: Tensor | None = None) -> Tensor:
    """KL(p_T || p_S) of one Bernoulli variable a class, summed over the known classes: (...,) of logits (..., K).

    The binary cross-entropy with the teacher's scores as targets, less the teacher's own entropy: no gradient sees it.
    """
    targets = theirs.sigmoid()
    losses = F.binary_cross_entropy_with_logits(ours, targets, reduction="none")
    losses = losses - F.binary_cross_entropy_with_logits(theirs, targets, reduction="none")
    return (losses if known is None else losses * known).sum(-1)


def l1_distance(ours_px: Tensor, theirs_px: Tensor, batch: Batch) -> Tensor:
    """Sum of the differences of centre and size, relative to the image: (...,) of boxes (..., 4)."""
    size = image_size(batch)
    return (centred(ours_px.float(), size) - centred(theirs_px.float(), size)).abs().sum(-1)


def image_size(batch: Batch) -> tuple[int, int]:
    """(H, W) in px."""
    return int(batch.images.shape[2]), int(batch.images.shape[3])


def matched_answers(
    ours: Sequence[Answers],
    theirs: Sequence[Answers],
    batch: Batch,
    config: QueryConfig,
    known: Tensor | None,
    valid: Tensor | Sequence[Tensor] | None = None,
) -> list[Matches]:
    """Who answers for whom at the least cost, per layer, with the config's factors.

    Args:
        valid: (B, G) bool, of the teacher's, for all layers or for each; None: all.
    """
    factors = (config.classes, config.l1, config.giou)
    with SPENT:
        costs = [answer_cost(one, other, batch, factors, known) for one, other in zip(ours, theirs, strict=True)]
    return match_layers(costs, valid)


def of_pairs(ours: Answers, theirs: Answers, pairs: Matches) -> tuple[Answers, Answers]:
    """(M, ...) of both sides."""
    return (
        Answers(pairs.of_queries(ours.logits), pairs.of_queries(ours.boxes_px)),
        Answers(pairs.of_targets(theirs.logits), pairs.of_targets(theirs.boxes_px)),
    )


@torch.no_grad()
def answer_cost(
    ours: Answers, theirs: Answers, batch: Batch, factors: tuple[float, float, float], known: Tensor | None = None
) -> Tensor:
    """What it costs that a query of the student answers for one of the teacher: (B, Q, G), of (B, Q, ...), (B, G, ...).

    Args:
        factors: of the Bernoulli KL of classes, of L1, and of -GIoU.
    """
    size = image_size(batch)
    return (
        factors[0] * _class_cost(ours.logits, theirs.logits, known)
        + factors[1] * l1_cost(centred(ours.boxes_px, size), centred(theirs.boxes_px, size))
        + factors[2] * giou_cost(ours.boxes_px, theirs.boxes_px)
    )


@fp32_island
def _class_cost(ours: Tensor, theirs: Tensor, known: Tensor | None) -> Tensor:
    """`bernoulli_kl` of every pair but for the teacher's entropy, which is the same for all queries of the student."""
    visible = torch.ones(ours.shape[-1], device=ours.device) if known is None else known.float()
    ours, targets = ours * visible, theirs.sigmoid() * visible
    return (F.softplus(ours) * visible).sum(-1).unsqueeze(2) - ours @ targets.transpose(1, 2)


def best_scores(logits: Tensor, known: Tensor | None) -> Tensor:
    """The highest probability of a known class, (...,) of logits (..., K), detached."""
    scores = logits.detach().float().sigmoid()
    return (scores if known is None else scores * known).amax(-1)


def known_classes(pair: Pair) -> Tensor | None:
    """(K,) bool, classes of the data that the teacher knows; None: all."""
    return None if all(pair.known) else torch.tensor(pair.known)


class Memories(nn.Module):
    """Levels of equal stride of two encoders' memories; the student's are brought to the teacher's width."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        student, teacher = pair.student.head, pair.teacher.head
        assert isinstance(student, QueryHead)
        assert isinstance(teacher, QueryHead)
        both = [stride for stride in student.strides if stride in teacher.strides]
        self.levels = tuple((student.strides.index(stride), teacher.strides.index(stride)) for stride in both)
        kind: Literal["none", "conv1x1"] = "none" if student.width == teacher.width else "conv1x1"
        self.adapters = nn.ModuleList(channel_adapter(student.width, teacher.width, kind) for _ in both)

    def of_student(self, queries: QueryPredictions) -> list[Tensor]:
        """(B, C of the teacher, H, W) per shared level."""
        maps = (queries.memory[level] for level, _ in self.levels)
        return [adapter(one) for adapter, one in zip(self.adapters, maps, strict=True)]

    def of_teacher(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Those of the teacher's levels that are shared."""
        return [maps[level] for _, level in self.levels]


def mean_of(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Terms by name, means over layers."""
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
