"""QSKD: of the teacher's queries, those that find an object and those that nearly do.

Knowledge Distillation via Query Selection for Detection Transformer, Liu et al., arXiv 2409.06443. No official code.

    kept: queries of the teacher whose box has GIoU > 0.5 with an object (positive), or 0 <= GIoU <= 0.5 and a score
        above 0.05 (hard negative)
    features: A(h, w) = sum over the kept queries of their cross-attention in the last layer;
        L_f = sum over levels of ( sum of A (phi(F_S) - F_T)^2 / sum of A ), the square a mean over channels
    prediction: as `detrdistill`'s, of the kept queries:
        L_p = 1 / M x sum over the M pairs of (1 KL(p_T || p_S) + 5 |b_T - b_S|_1 + 2 (1 - GIoU))

**Reduction**: as the equations say; KL is summed over classes, the second a mean over the layers that learn.

Whose numbers: the paper's thresholds, factors and grouping are not known to us. Positives are those that a detector's
metrics would count at IoU 0.5; a negative is hard if it overlaps at all and scores above the background. Factors 1, 5,
2 are those of DETR's cost. Which queries are kept is decided by the teacher's last layer, for all layers. Deformable
attention has no dense map: each sampled place is shared among the cells around it. Images without objects
keep no query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.parts import Attention
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.spec import Needs, Part, QueryHead
from edgekd.distill.adapters import fp32_island
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.matching import giou_cost
from edgekd.distill.queries import (
    Answers,
    Memories,
    QueryConfig,
    agreement,
    best_scores,
    known_classes,
    layer_pairs,
    matched_answers,
    mean_of,
    of_pairs,
)
from edgekd.distill.query.set_loss import Objects
from edgekd.distill.requirements import (
    all_layers_of_teacher,
    cross_attention_of_teacher,
    memories,
    query_heads,
    shared_classes,
)
from edgekd.errors import InputError


class QSKDConfig(QueryConfig):
    """Keys of `qskd`."""

    at_least_one_of: ClassVar[tuple[str, ...]] = ("prediction", "features")

    prediction: float = Field(1.0, ge=0, description="factor on the predictions of kept queries; 0 leaves them out")
    features: float = Field(1.0, ge=0, description="factor on the memory where kept queries look; 0 leaves it out")
    positive_giou: float = Field(0.5, gt=0, lt=1, description="of the teacher's box with an object: found")
    hard_giou: float = Field(0.0, ge=-1, lt=1, description="at least so much, of a hard negative")
    min_score: float = Field(0.05, ge=0, lt=1, description="above it, of a hard negative")

    @model_validator(mode="after")
    def _sensible(self) -> QSKDConfig:
        if self.hard_giou > self.positive_giou:
            raise ValueError("hard_giou is above positive_giou; no negative could be hard")
        return self


@register("qskd")
class QSKD(Distiller):
    """The student learns what the teacher's useful queries say, and the memory that they look at."""

    config_type = QSKDConfig
    card = Card(
        about="predictions and memory of the teacher's queries at objects and nearly there",
        title="Knowledge Distillation via Query Selection for Detection Transformer",
        venue="arXiv 2024",
        level="logit",
        arxiv="2409.06443",
        gain="Conditional DETR R101 to R18 on COCO 35.8 to 39.9 AP, DAB-DETR R18 36.2 to 41.5 (after the survey)",
    )
    requires = (query_heads, all_layers_of_teacher, shared_classes)
    decided_by = frozenset({"positive_giou", "hard_giou", "min_score"})
    switches = frozenset({"features"})
    config: QSKDConfig
    known: Tensor | None

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        teacher = pair.teacher.head
        assert isinstance(teacher, QueryHead)
        self.register_buffer("known", known_classes(pair), persistent=False)
        self.pairs = layer_pairs(pair, self.config.layers, self.name)
        ours: set[Part] = {"class_logits", "boxes"}
        theirs: set[Part] = {"class_logits", "boxes", "layers"}
        if self.config.features:
            for reason in (memories(pair), cross_attention_of_teacher(pair)):
                if reason is not None:
                    raise InputError(f"{self.name}: features {reason}; leave that part out with 'features: 0'")
            self.memories, self.look = Memories(pair), Attention("cross", teacher.layers - 1)
            ours |= {"memory"}
            theirs |= {"memory", self.look}
        return Wiring(Needs(parts=frozenset(ours)), Needs(parts=frozenset(theirs)))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """`logits`, `boxes` (B, D, Q, ...), `kept` (B, Q) bool, and `memory-<level>`, `looks-<level>` (B, 1, H, W)."""
        queries = teacher.queries
        assert queries is not None
        kept = self._kept(queries, batch)
        found = {
            "logits": queries.class_logits.transpose(0, 1), "boxes": queries.boxes_px.transpose(0, 1), "kept": kept
        }  # fmt: skip
        if self.config.features:
            looks = queries.cross_attention(self.look.layer).onto_levels(kept.to(queries.class_logits.dtype))
            found |= {f"memory-{at}": one for at, one in enumerate(self.memories.of_teacher(queries.memory))}
            found |= {f"looks-{at}": one.unsqueeze(1) for at, one in enumerate(self.memories.of_teacher(looks))}
        return found

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`class`, `l1` and `giou` of the kept queries, and `features`; those that have a factor."""
        queries, found = student.queries, {}
        assert queries is not None
        if self.config.prediction:
            parts = self._aligned(queries, knowledge, batch)
            found = {name: self.config.prediction * value for name, value in parts.items()}
        if self.config.features:
            losses = [
                attended_distance(ours, knowledge[f"memory-{level}"], knowledge[f"looks-{level}"])
                for level, ours in enumerate(self.memories.of_student(queries))
            ]
            found["features"] = self.config.features * torch.stack(losses).sum()
        return found

    def _kept(self, queries: QueryPredictions, batch: Batch) -> Tensor:
        """(B, Q) bool, by the last layer."""
        objects, boxes = Objects.of(batch, self.known), queries.boxes_px[-1]
        scores = best_scores(queries.class_logits[-1], self.known)
        if not objects.valid.shape[1]:
            return torch.zeros_like(scores, dtype=torch.bool)
        giou = -giou_cost(boxes, objects.boxes_px)
        nearest = giou.masked_fill(~objects.valid.unsqueeze(1), -2.0).amax(-1)
        hard = (nearest >= self.config.hard_giou) & (scores > self.config.min_score)
        return (nearest > self.config.positive_giou) | hard

    def _aligned(self, queries: QueryPredictions, knowledge: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        ours = [Answers.of_layer(queries, layer) for layer, _ in self.pairs]
        theirs = [Answers(knowledge["logits"][:, layer], knowledge["boxes"][:, layer]) for _, layer in self.pairs]
        pairs = matched_answers(ours, theirs, batch, self.config, self.known, knowledge["kept"])
        return mean_of(
            [
                agreement(*of_pairs(own, other, one), batch.images.new_ones(len(one)), batch, self.config, self.known)
                for own, other, one in zip(ours, theirs, pairs, strict=True)
            ]
        )


@fp32_island
def attended_distance(student: Tensor, teacher: Tensor, looks: Tensor) -> Tensor:
    """Squared difference of maps (B, C, H, W), a mean over channels and over cells by their attention (B, 1, H, W)."""
    distance = (student - teacher).square().mean(1, keepdim=True)
    return (looks * distance).sum() / looks.sum().clamp_min(1e-6)
