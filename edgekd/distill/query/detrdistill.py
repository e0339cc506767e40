"""DETRDistill: predictions matched one to one, memory where the teacher's queries look, and the teacher's queries.

DETRDistill: A Universal Knowledge Distillation Framework for DETR-families, Chang et al., ICCV 2023, arXiv 2211.10156.
Code: github.com/BIVLab-USTC/DETRDistill.

    prediction: s = Hungarian(1 KL + 5 |b_T - b_S|_1 - 2 GIoU) of all queries of both sides, layer by layer;
        L_p = 1 / M x sum over the M pairs of (1 KL(p_T || p_S) + 5 |b_T - b_S|_1 + 2 (1 - GIoU))
    features: m(h, w) = sum over the 100 best queries q of s_q max over objects of IoU(b_q, .) cos(q, F_T(h, w)),
        from 0.01 on, divided by its maximum;   L_f = sum over levels of mean of (m F_T - m phi(F_S))^2
    queries: the student's decoder is asked about the teacher's queries; each predicts the object that the teacher's
        assignment gives it:   L_q = 1 / G x sum of (2 focal + 5 |b - b_gt|_1 + 2 (1 - GIoU)) over the G objects

**Reduction**: as the equations say, means over the layers that learn; KL and focal loss are summed over classes.

Each part has a factor; 0 leaves it out, and what it alone would read.

Differs from the official code: the classes' binary cross-entropy is less by the teacher's own entropy, so that
identical predictions cost nothing; the memory is compared where the decoder reads it, in place of every stage's maps;
there the content of the group is learned, here it is what the teacher's decoder began with, through a linear layer
where widths differ. Its contrastive head, which the paper does not have, is left out. Images without labels have no
part in the last two, nor do classes that the teacher does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.regions import Regions, overlaps
from edgekd.detectors.spec import Needs, Part, QueryHead
from edgekd.distill.adapters import fp32_island
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.queries import (
    Answers,
    Memories,
    QueryConfig,
    agreement,
    best_scores,
    content_adapter,
    known_classes,
    layer_pairs,
    matched_answers,
    mean_of,
    of_pairs,
)
from edgekd.distill.query.asking import rows_at
from edgekd.distill.query.set_loss import Objects, assign, detection_loss
from edgekd.distill.requirements import (
    all_layers_of_teacher,
    boxes_of_queries,
    memories,
    query_heads,
    shared_classes,
    student_asked,
)
from edgekd.errors import InputError

_FOCAL = 2.0  # on the classes of the third part, as in the loss of Deformable DETR


class DETRDistillConfig(QueryConfig):
    """Keys of `detrdistill`."""

    at_least_one_of: ClassVar[tuple[str, ...]] = ("prediction", "features", "queries")

    prediction: float = Field(1.0, ge=0, description="factor on the matched predictions; 0 leaves them out")
    features: float = Field(1.0, ge=0, description="factor on the memory; 0 leaves it out")
    queries: float = Field(1.0, ge=0, description="factor on the teacher's queries; 0 leaves them out")
    matched: int = Field(300, ge=1, le=2000, description="of the teacher's queries, the best, that are matched")
    looking: int = Field(100, ge=1, le=2000, description="of the teacher's queries, the best, that weigh the memory")


@register("detrdistill")
class DETRDistill(Distiller):
    """The student gives each of the teacher's predictions, sees where its queries look, and decodes its queries."""

    config_type = DETRDistillConfig
    card = Card(
        about="predictions matched one to one, memory where queries look, the teacher's queries",
        title="DETRDistill: A Universal Knowledge Distillation Framework for DETR-families",
        venue="ICCV 2023",
        level="query",
        arxiv="2211.10156",
        code="github.com/BIVLab-USTC/DETRDistill",
        gain="Deformable DETR R101 to R50 on COCO 44.1 to 46.6 AP, R18 40.0 to 43.3",
    )
    requires = (query_heads, all_layers_of_teacher, shared_classes)
    decided_by = frozenset({"looking"})
    switches = frozenset({"features", "queries"})
    config: DETRDistillConfig
    known: Tensor | None

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`; a part that is left out asks for nothing."""
        config, student, teacher = self.config, pair.student.head, pair.teacher.head
        assert isinstance(student, QueryHead)
        assert isinstance(teacher, QueryHead)
        self.register_buffer("known", known_classes(pair), persistent=False)
        self.pairs = layer_pairs(pair, config.layers, self.name)
        for part, requirement in (("features", memories), ("queries", student_asked), ("queries", boxes_of_queries)):
            reason = requirement(pair)
            if getattr(config, part) and reason is not None:
                raise InputError(f"{self.name}: {part} {reason}; leave that part out with '{part}: 0'")
        ours: set[Part] = {"class_logits", "boxes"}
        theirs: set[Part] = {"class_logits", "boxes", "layers"}
        if config.features:
            self.memories = Memories(pair)
            ours |= {"memory"}
            theirs |= {"memory", "embeddings"}
        if config.queries:
            self.adapter = content_adapter(teacher.width, student.width)
            ours |= {"decoder"}
            theirs |= {"embeddings"}
        return Wiring(Needs(parts=frozenset(ours)), Needs(parts=frozenset(theirs)))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """`logits` and `boxes` (B, D, Q, ...), `memory-<level>` with `mask-<level>` (B, 1, H, W), `content` and
        `references` (B, Q, ...); what the parts need that act."""
        queries, config = teacher.queries, self.config
        assert queries is not None
        kept = {"logits": queries.class_logits.transpose(0, 1), "boxes": queries.boxes_px.transpose(0, 1)}
        if config.features:
            maps = self.memories.of_teacher(queries.memory)
            weights, looks = _looking(queries, Objects.of(batch, self.known).regions, config.looking, self.known)
            kept |= {f"memory-{level}": one for level, one in enumerate(maps)}
            kept |= {f"mask-{level}": look_mask(one, looks, weights) for level, one in enumerate(maps)}
        if config.queries:
            kept |= {"content": queries.content, "references": queries.references[0]}
        return kept

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`class`, `l1`, `giou` of the matched predictions, `features`, and `queries`; those that have a factor."""
        queries, config = student.queries, self.config
        assert queries is not None
        found: dict[str, Tensor] = {}
        if config.prediction:
            found |= {
                name: config.prediction * value for name, value in self._matched(queries, knowledge, batch).items()
            }
        if config.features:
            losses = [
                masked_distance(ours, knowledge[f"memory-{level}"], knowledge[f"mask-{level}"])
                for level, ours in enumerate(self.memories.of_student(queries))
            ]
            found["features"] = config.features * torch.stack(losses).sum()
        if config.queries:
            found["queries"] = config.queries * self._decoded(queries, knowledge, batch)
        return found

    def _matched(self, queries: QueryPredictions, knowledge: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        ours = [Answers.of_layer(queries, layer) for layer, _ in self.pairs]
        theirs = [self._best(knowledge["logits"][:, it], knowledge["boxes"][:, it]) for _, it in self.pairs]
        pairs = matched_answers(ours, theirs, batch, self.config, self.known)
        return mean_of(
            [
                agreement(*of_pairs(own, other, one), batch.images.new_ones(len(one)), batch, self.config, self.known)
                for own, other, one in zip(ours, theirs, pairs, strict=True)
            ]
        )

    def _best(self, logits: Tensor, boxes: Tensor) -> Answers:
        """The best of the teacher's queries, that are matched."""
        if self.config.matched >= logits.shape[1]:
            return Answers(logits, boxes)
        best = best_scores(logits, self.known).topk(self.config.matched, dim=1).indices
        return Answers(rows_at(logits, best), rows_at(boxes, best))

    def _decoded(self, queries: QueryPredictions, knowledge: Mapping[str, Tensor], batch: Batch) -> Tensor:
        answers = queries.decoder.ask(self.adapter(knowledge["content"]), knowledge["references"])
        objects = Objects.of(batch, self.known)
        factors = (_FOCAL * self.config.classes, self.config.l1, self.config.giou)
        teacher = [Answers(knowledge["logits"][:, it], knowledge["boxes"][:, it]) for _, it in self.pairs]
        losses = [
            detection_loss(Answers.of_layer(answers, ours), assigned, objects, batch, factors, self.known)
            for (ours, _), assigned in zip(self.pairs, assign(teacher, objects, batch), strict=True)
        ]
        return torch.stack([torch.stack(list(parts.values())).sum() for parts in losses]).mean()


def _looking(queries: QueryPredictions, objects: Regions, count: int, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights (B, Q) and embeddings (B, Q, C) of the best queries: score times overlap with the nearest object."""
    scores = best_scores(queries.class_logits[-1], known)
    best = scores.topk(min(count, scores.shape[1]), dim=1)
    found = Regions(rows_at(queries.boxes_px[-1], best.indices), torch.ones_like(best.values, dtype=torch.bool))
    nearest = overlaps(found, objects).amax(-1) if objects.valid.shape[1] else torch.zeros_like(best.values)
    return best.values * nearest, rows_at(queries.embeddings[-1], best.indices)


@fp32_island
def look_mask(memory: Tensor, queries: Tensor, weights: Tensor) -> Tensor:
    """(B, 1, H, W), up to 1: how much weighted queries (B, Q, C) are like a map (B, C, H, W); 0 without weights."""
    wanted = (weights.unsqueeze(-1) * F.normalize(queries, dim=-1)).sum(1)  # (B, C): cosines are linear in the query's
    total = torch.einsum("bc,bchw->bhw", wanted, F.normalize(memory, dim=1)).unsqueeze(1).clamp_min(1e-2)
    counts = (weights.sum(1) > 0)[:, None, None, None]
    return total / total.amax((2, 3), keepdim=True) * counts


@fp32_island
def masked_distance(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean of (m F_T - m F_S)^2 over maps (B, C, H, W); the mask is (B, 1, H, W)."""
    return (mask * (teacher - student)).square().mean()
