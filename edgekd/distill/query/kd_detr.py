"""KD-DETR: both detectors answer the same questions.

KD-DETR: Knowledge Distillation for Detection Transformer with Consistent Distillation Points Sampling, Wang et al.,
CVPR 2024, arXiv 2211.08071. Code: github.com/wennyuhey/KD-DETR, which holds none of it.

    points = general (boxes uniform in 0..1, drawn anew in every step) and specific (the teacher's own queries)
    w_i = max over known k of sigmoid(z_T[i, k])
    L = sum over i of w_i (1 KL(p_T || p_S) + 5 |b_T - b_S|_1 + 2 (1 - GIoU)) / max(1, sum over i of w_i)

**Reduction**: KL summed over classes, weighted mean over the points of the batch, mean over the layers that learn.

The student's decoder is asked beside its own queries; none of either group sees the other. Where decoders differ in
depth, a layer learns from the teacher's that lies as deep.

Dense students are asked at some of their points, the teacher's last layer about a square of `anchor` strides there:
at random points, and at those nearest to what the teacher finds.

Differs from the paper: the sum is divided by the weights, since the factors 1, 5, 2 (DETR's own; those of the paper are
not known to us) then do not depend on how sure a teacher is. The paper feeds one content to both sides. Detectors that
make content of their memory, as RT-DETR, would be asked in a language of the teacher's, so by default each puts in what
it has at the box (`content: own`); `teacher` gives the student the teacher's content, through a linear layer where
widths differ. There a query for an anchor is made by a trained network of its position; here it is `content_at`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.spec import DenseHead, Needs, QueryHead
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.queries import (
    Answers,
    QueryConfig,
    agreement,
    best_scores,
    content_adapter,
    known_classes,
    layer_pairs,
    mean_of,
)
from edgekd.distill.query.anchors import answers_at_points, at_points
from edgekd.distill.query.asking import asked, rows_at, said
from edgekd.distill.query.places import random_boxes
from edgekd.distill.requirements import both_asked, query_teacher, shared_classes, single_anchors


class KDDETRConfig(QueryConfig):
    """Keys of `kd_detr`."""

    at_least_one_of: ClassVar[tuple[str, ...]] = ("general", "specific")

    general: int = Field(300, ge=0, le=2000, description="random points an image; 0: none")
    specific: int = Field(300, ge=0, le=2000, description="of the teacher's own queries, the best; 0: none")
    content: Literal["own", "teacher"] = Field("own", description="whose content the student's queries have")
    anchor: float = Field(4.0, gt=0, le=64, description="side of the query at a dense student's point, in strides")


@register("kd_detr")
class KDDETR(Distiller):
    """The student learns to answer as the teacher does, about queries that belong to neither."""

    config_type = KDDETRConfig
    card = Card(
        about="answers to the same queries, random ones and the teacher's",
        title="KD-DETR: Knowledge Distillation for Detection Transformer with Consistent Distillation Points Sampling",
        venue="CVPR 2024",
        level="query",
        arxiv="2211.08071",
        gain="DAB-DETR R50 to R18 on COCO 36.2 to 41.4 AP; DINO R50 to Faster R-CNN R50 38.4 to 40.5",
    )
    requires = (query_teacher, both_asked, single_anchors, shared_classes)
    decided_by = frozenset({"general", "specific", "content", "anchor"})
    config: KDDETRConfig
    known: Tensor | None

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        student, teacher = pair.student.head, pair.teacher.head
        assert isinstance(teacher, QueryHead)
        self.register_buffer("known", known_classes(pair), persistent=False)
        self.dense = student if isinstance(student, DenseHead) else None
        theirs = Needs(parts=frozenset({"class_logits", "boxes", "decoder", "embeddings", "layers"}))
        if not isinstance(student, QueryHead):
            self.pairs: tuple[tuple[int, int], ...] = ()
            return Wiring(Needs(parts=frozenset({"class_logits", "boxes"})), theirs)
        self.pairs = layer_pairs(pair, self.config.layers, self.name)
        if self.config.content == "teacher":
            self.adapter = content_adapter(teacher.width, student.width)
        return Wiring(Needs(parts=frozenset({"class_logits", "boxes", "decoder"})), theirs)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """Of P points an image: `boxes` (B, P, 4) or `places` (B, P), `logits` and `answers` (B, D, P, ...)."""
        queries = teacher.queries
        assert queries is not None
        general, specific = self.config.general, min(self.config.specific, int(queries.class_logits.shape[2]))
        best = best_scores(queries.class_logits[-1], self.known).topk(specific, dim=1).indices
        if self.dense is not None:
            found = rows_at(queries.boxes_px[-1], best)
            return answers_at_points(queries, batch.images, self.dense, self.config.anchor, general, found)
        groups = [asked(queries, random_boxes(batch.images, general))] if general else []
        groups += [said(queries, best)] if specific else []
        names = [name for name in groups[0] if name != "content" or self.config.content == "teacher"]
        return {name: torch.cat([group[name] for group in groups], -2) for name in names}

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`class`, `l1` and `giou`."""
        if self.dense is not None:
            theirs = Answers(knowledge["logits"][:, -1], knowledge["answers"][:, -1])
            sides = (Answers(*at_points(one, knowledge["places"])) for one in student.dense.values())
            return mean_of([self._apart(ours, theirs, batch) for ours in sides])
        assert student.queries is not None
        answers = self._answers(student.queries, knowledge)
        return mean_of(
            [
                self._apart(
                    Answers.of_layer(answers, ours),
                    Answers(knowledge["logits"][:, it], knowledge["answers"][:, it]),
                    batch,
                )
                for ours, it in self.pairs
            ]
        )

    def _apart(self, ours: Answers, theirs: Answers, batch: Batch) -> dict[str, Tensor]:
        return agreement(ours, theirs, best_scores(theirs.logits, self.known), batch, self.config, self.known)

    def _answers(self, queries: QueryPredictions, knowledge: Mapping[str, Tensor]) -> QueryPredictions:
        """The student's, by group: the random points and the teacher's do not see each other."""
        decoder, boxes = queries.decoder, knowledge["boxes"]
        content = self.adapter(knowledge["content"]) if self.config.content == "teacher" else decoder.content_at(boxes)
        general = self.config.general
        groups = [slice(0, general), slice(general, None)]
        found = [decoder.ask(content[:, group], boxes[:, group]) for group in groups if boxes[:, group].shape[1]]
        logits, places = (torch.cat([getattr(one, name) for one in found], 2) for name in ("class_logits", "boxes_px"))
        return QueryPredictions(logits, places, found[0].layers)
