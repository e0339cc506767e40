"""OD-DETR: the student learns from its own average, which matches more steadily than itself.

OD-DETR: Online Distillation for Stabilizing Training of Detection Transformer, Wu et al., IJCAI 2024, arXiv 2406.05791.
We know of no official code.

    The student's decoder is asked about the queries with which the average's decoder began.
    matching: an answer's targets are the object that the average's own matching gives this query, and the one that
        matching the answers gives it:   L_m = 1 / G x sum of (QFL(z_S, IoU) + 5 |b - b_gt|_1 + 2 (1 - GIoU)), the
        boxes those of the average's matching
    prediction: L_p = sum of w_i (1 KL(p_T || p_S) + 5 |b_T - b_S|_1 + 2 (1 - GIoU)) / max(1, sum of w_i)
    auxiliary: of the queries behind a layer of the average, the two of least cost for each object; the student's
        decoder is asked about them, and each predicts its object:
        L_a = 1 / (2 G) x sum of (2 focal + 5 L1 + 2 (1 - GIoU))

**Reduction**: G: objects of the batch; means over the layers that learn.

The paper's teacher is the student's average, which the engine keeps anyway: write `teacher: ema`, and no bigger model
is needed. Any other detector with queries may teach it as well.

Whose numbers: the paper's decay and weights are not known to us. The decay is the engine's (0.9999, rising over the
first 2000 updates); factors 1, 5, 2 are those of DETR's cost, and the three parts count alike.

Differs from the paper: there queries are learned, so a student's query and its average's are the same one by number.
Here they may be chosen by content, anew for each image, and equal numbers mean nothing; the student is therefore asked
about the average's queries in the matching, too, not its own. The auxiliary group is made of one layer of the average
(`stage`), not of every one, each of which would cost another pass of the decoder; an image with fewer objects than
another of its batch repeats its queries there, without weight. Classes that a teacher does not know have no part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.spec import Needs, QueryHead
from edgekd.distill.boxes import box_loss, centred
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.matching import Matches
from edgekd.distill.queries import (
    Answers,
    QueryConfig,
    agreement,
    best_scores,
    content_adapter,
    image_size,
    known_classes,
    l1_distance,
    layer_pairs,
    mean_of,
)
from edgekd.distill.query.asking import rows_at
from edgekd.distill.query.set_loss import (
    Objects,
    assign,
    class_sum,
    cost_of,
    detection_loss,
    quality_focal_loss,
    quality_targets,
)
from edgekd.distill.requirements import (
    all_layers_of_teacher,
    boxes_of_queries,
    query_heads,
    shared_classes,
    student_asked,
)
from edgekd.errors import InputError

_TWO = 2  # queries of the auxiliary group for each object


class ODDETRConfig(QueryConfig):
    """Keys of `od_detr`."""

    at_least_one_of: ClassVar[tuple[str, ...]] = ("matching", "prediction", "auxiliary")

    matching: float = Field(1.0, ge=0, description="factor on the average's matching; 0 leaves it out")
    prediction: float = Field(1.0, ge=0, description="factor on the average's predictions; 0 leaves them out")
    auxiliary: float = Field(1.0, ge=0, description="factor on the auxiliary group; 0 leaves it out")
    stage: int = Field(0, ge=0, description="layer of the average behind which the auxiliary group is taken, from 0")


@register("od_detr")
class ODDETR(Distiller):
    """The student keeps to what its average matches and predicts, from the same queries."""

    config_type = ODDETRConfig
    card = Card(
        about="the student's own average: its matching, its predictions, its queries",
        title="OD-DETR: Online Distillation for Stabilizing Training of Detection Transformer",
        venue="IJCAI 2024",
        level="query",
        arxiv="2406.05791",
        gain="Deformable DETR R50 on COCO 45.4 to 47.7 AP, without another model",
    )
    requires = (query_heads, all_layers_of_teacher, boxes_of_queries, student_asked, shared_classes)
    decided_by = frozenset({"stage"})
    config: ODDETRConfig
    known: Tensor | None

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`; a `stage` that there is not is refused."""
        student, teacher = pair.student.head, pair.teacher.head
        assert isinstance(student, QueryHead)
        assert isinstance(teacher, QueryHead)
        self.register_buffer("known", known_classes(pair), persistent=False)
        self.pairs = layer_pairs(pair, self.config.layers, self.name)
        self.stage = self.config.stage
        if self.stage >= teacher.layers:
            raise InputError(
                f"{self.name}: stage: teacher {pair.teacher.name} has decoder layers 0 to {teacher.layers - 1}, given "
                f"{self.stage}; choose one of these"
            )
        self.adapter = content_adapter(teacher.width, student.width)
        theirs = Needs(parts=frozenset({"class_logits", "boxes", "layers", "embeddings"}))
        return Wiring(Needs(parts=frozenset({"class_logits", "boxes", "decoder"})), theirs)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """`logits`, `boxes` (B, D, Q, ...); `content`, `references`, `stage` (B, Q, ...): queries at both places."""
        queries = teacher.queries
        assert queries is not None
        return {
            "logits": queries.class_logits.transpose(0, 1), "boxes": queries.boxes_px.transpose(0, 1),
            "content": queries.content, "references": queries.references[0], "stage": queries.embeddings[self.stage],
        }  # fmt: skip

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`matching`, `prediction` and `auxiliary`; those that have a factor."""
        queries, config = student.queries, self.config
        assert queries is not None
        objects, found = Objects.of(batch, self.known), dict[str, Tensor]()
        if config.matching or config.prediction:
            answers = queries.decoder.ask(self.adapter(knowledge["content"]), knowledge["references"])
            ours = [Answers.of_layer(answers, layer) for layer, _ in self.pairs]
            theirs = [Answers(knowledge["logits"][:, it], knowledge["boxes"][:, it]) for _, it in self.pairs]
            if config.matching:
                found["matching"] = config.matching * self._matching(ours, theirs, objects, batch)
            if config.prediction:
                found["prediction"] = config.prediction * self._prediction(ours, theirs, batch)
        if config.auxiliary:
            found["auxiliary"] = config.auxiliary * self._auxiliary(queries, knowledge, objects, batch)
        return found

    def _prediction(self, ours: Sequence[Answers], theirs: Sequence[Answers], batch: Batch) -> Tensor:
        alike = [
            agreement(one, other, best_scores(other.logits, self.known), batch, self.config, self.known)
            for one, other in zip(ours, theirs, strict=True)
        ]
        return torch.stack(list(mean_of(alike).values())).sum()

    def _matching(self, ours: Sequence[Answers], theirs: Sequence[Answers], objects: Objects, batch: Batch) -> Tensor:
        assigned = assign([*theirs, *ours], objects, batch)
        both = zip(ours, assigned[: len(theirs)], assigned[len(theirs) :], strict=True)
        return torch.stack([self._matched(one, steady, own, objects, batch) for one, steady, own in both]).mean()

    def _matched(self, ours: Answers, steady: Matches, latest: Matches, objects: Objects, batch: Batch) -> Tensor:
        targets = quality_targets(ours, (steady, latest), objects)
        classes = class_sum(quality_focal_loss(ours.logits, targets), batch, self.known)
        own, wanted = steady.of_queries(ours.boxes_px), steady.of_targets(objects.boxes_px)
        boxes = self.config.l1 * l1_distance(own, wanted, batch) + self.config.giou * box_loss(own, wanted)
        return (self.config.classes * classes + boxes.sum()) / objects.valid.sum().clamp_min(1)

    def _auxiliary(
        self, queries: QueryPredictions, knowledge: Mapping[str, Tensor], objects: Objects, batch: Batch
    ) -> Tensor:
        count = objects.valid.shape[1]
        if not count:
            return sum(value.sum() for value in (queries.class_logits, queries.boxes_px)) * 0.0  # type: ignore[return-value]
        stage = Answers(knowledge["logits"][:, self.stage], knowledge["boxes"][:, self.stage])
        two = cost_of(stage, objects, batch).topk(min(_TWO, stage.logits.shape[1]), dim=1, largest=False).indices
        each = two.transpose(1, 2)  # (B, G, 2)
        best = each.gather(1, objects.again.unsqueeze(-1).expand_as(each)).flatten(1)  # object after object
        content = self.adapter(rows_at(knowledge["stage"], best))
        boxes = rows_at(centred(stage.boxes_px, image_size(batch)), best).clamp(0, 1)
        answers = queries.decoder.ask(content, boxes)
        counted = objects.valid.repeat_interleave(two.shape[1], 1)
        assigned = _each_its_own(counted, two.shape[1])
        factors = (2 * self.config.classes, self.config.l1, self.config.giou)
        losses = [
            detection_loss(Answers.of_layer(answers, ours), assigned, objects, batch, factors, self.known, counted)
            for ours, _ in self.pairs
        ]
        return torch.stack(list(mean_of(losses).values())).sum() / two.shape[1]


def _each_its_own(counted: Tensor, copies: int) -> Matches:
    """Query n of the auxiliary group (B, G * copies) answers for object n // copies, of those that there are."""
    image, place = counted.nonzero(as_tuple=True)
    return Matches(image, place, place // copies)
