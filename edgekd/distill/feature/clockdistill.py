"""CLoCKDistill: the encoder's memory by the objects' places, and answers to queries made of the labels.

CLoCKDistill: Consistent Location-and-Context-aware Knowledge Distillation for DETRs, Lan & Tian, WACV 2026, arXiv
2502.10683. Its code (github.com/lanqz7766/CLoCKDistill) could not be read.

    memory: M = 1 inside objects, S = 1 / (cells of the object) there, 1 / (cells of the background) elsewhere:
        L_m = 1 / N x sum over levels, c, h, w of (alpha M S + beta (1 - M) S) (F_T - phi(F_S))^2
    answers: for each object a query whose box is the object's and whose content is the teacher's for its class;
        w_i = max over known k of sigmoid(z_T[i, k])
        L_a = sum over i of w_i (1 KL(p_T || p_S) + 5 |b_T - b_S|_1 + 2 (1 - GIoU)) / max(1, sum over i of w_i)

**Reduction**: the first a sum over elements and levels and a mean over the N images; the second as `kd_detr`'s.

alpha 5e-5 and beta 1e-7 are the paper's, for memory of 256 channels (after a re-implementation of others).

Differs from the paper: there a small network makes the position of a query of its box; here the decoders do so
themselves, from the reference box. Content by class is the teacher's embedding of denoising queries, so that neither
side drifts, through a linear layer where widths differ. The answers are divided by the weights. An image with fewer
objects than another of its batch repeats its own, without weight; one without any has blank queries, without weight.
Boxes may be moved (`jitter`), which is off: whether the paper does so is not known to us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.spec import Needs, Part, QueryHead
from edgekd.distill.adapters import fp32_island
from edgekd.distill.box_masks import background_mask, has_labels, scale_mask
from edgekd.distill.boxes import centred
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.queries import (
    Answers,
    Memories,
    QueryConfig,
    agreement,
    best_scores,
    content_adapter,
    image_size,
    known_classes,
    layer_pairs,
    mean_of,
)
from edgekd.distill.query.asking import asked
from edgekd.distill.query.places import uniform
from edgekd.distill.query.set_loss import Objects
from edgekd.distill.requirements import both_asked, class_content, memories, query_heads, shared_classes
from edgekd.errors import InputError


class CLoCKDistillConfig(QueryConfig):
    """Keys of `clockdistill`."""

    at_least_one_of: ClassVar[tuple[str, ...]] = ("memory", "answers")

    memory: float = Field(1.0, ge=0, description="factor on the memory; 0 leaves it out")
    answers: float = Field(1.0, ge=0, description="factor on the answers to queries of labels; 0 leaves them out")
    alpha: float = Field(5e-5, ge=0, description="on the memory of objects")
    beta: float = Field(1e-7, ge=0, description="on the memory of the background")
    jitter: float = Field(0.0, ge=0, le=1, description="most by which an object's centre moves, in halves of its sides")


@register("clockdistill")
class CLoCKDistill(Distiller):
    """The student remembers as the teacher does where objects are, and answers alike when told where to look."""

    config_type = CLoCKDistillConfig
    card = Card(
        about="memory by objects and background, and answers to queries made of the labels",
        title="CLoCKDistill: Consistent Location-and-Context-aware Knowledge Distillation for DETRs",
        venue="WACV 2026",
        level="feature",
        arxiv="2502.10683",
        gain="2.2 to 6.4 AP on KITTI and COCO, students of DAB-DETR, Deformable DETR and DINO (its abstract)",
    )
    requires = (query_heads, shared_classes)
    config: CLoCKDistillConfig
    known: Tensor | None

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        config, student, teacher = self.config, pair.student.head, pair.teacher.head
        assert isinstance(student, QueryHead)
        assert isinstance(teacher, QueryHead)
        for part, requirements in (("memory", (memories,)), ("answers", (both_asked, class_content))):
            for reason in (requirement(pair) for requirement in requirements):
                if getattr(config, part) and reason is not None:
                    raise InputError(f"{self.name}: {part} {reason}; leave that part out with '{part}: 0'")
        self.register_buffer("known", known_classes(pair), persistent=False)
        self.pairs = layer_pairs(pair, config.layers, self.name)
        parts: set[Part] = set()
        if config.memory:
            self.memories = Memories(pair)
            parts |= {"memory"}
        if config.answers:
            self.adapter = content_adapter(teacher.width, student.width)
            parts |= {"decoder"}
        needs = Needs(parts=frozenset(parts))
        return Wiring(needs, needs)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """`memory-<level>` (B, C, H, W); of G queries `boxes`, `content`, `valid` (B, G, ...), and `logits`, `answers`
        (B, D, G, ...)."""
        queries = teacher.queries
        assert queries is not None
        kept: dict[str, Tensor] = {}
        if self.config.memory:
            kept |= {f"memory-{level}": one for level, one in enumerate(self.memories.of_teacher(queries.memory))}
        if self.config.answers:
            kept |= self._answers(queries, batch)
        return kept

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`foreground` and `background` of the memory; `class`, `l1` and `giou` of the answers."""
        queries, config = student.queries, self.config
        assert queries is not None
        found: dict[str, Tensor] = {}
        if config.memory:
            parts = [
                located_distance(ours, knowledge[f"memory-{level}"], batch)
                for level, ours in enumerate(self.memories.of_student(queries))
            ]
            inside, outside = torch.stack([torch.stack(part) for part in parts]).sum(0).unbind()
            found["foreground"] = config.memory * config.alpha * inside
            found["background"] = config.memory * config.beta * outside
        if config.answers:
            answers = queries.decoder.ask(self.adapter(knowledge["content"]), knowledge["boxes"])
            apart = mean_of(
                [self._apart(Answers.of_layer(answers, ours), knowledge, it, batch) for ours, it in self.pairs]
            )
            found |= {name: config.answers * value for name, value in apart.items()}
        return found

    def _apart(self, ours: Answers, knowledge: Mapping[str, Tensor], layer: int, batch: Batch) -> dict[str, Tensor]:
        theirs = Answers(knowledge["logits"][:, layer], knowledge["answers"][:, layer])
        weights = best_scores(theirs.logits, self.known) * knowledge["valid"]
        return agreement(ours, theirs, weights, batch, self.config, self.known)

    def _answers(self, queries: QueryPredictions, batch: Batch) -> dict[str, Tensor]:
        """The teacher's, about the objects of classes that it knows; at least one query an image."""
        objects = Objects.of(batch, self.known)
        if objects.valid.shape[1]:
            place = objects.again
            boxes = centred(objects.boxes_px, image_size(batch)).gather(1, place[..., None].expand(-1, -1, 4))
            classes, valid = objects.classes.gather(1, place), objects.valid
        else:
            boxes, classes = batch.images.new_zeros(batch.size, 1, 4), batch.class_ids.new_zeros(batch.size, 1)
            valid = torch.zeros_like(classes, dtype=torch.bool)
        blank = (boxes[..., 2:] <= 0).all(-1, keepdim=True)
        boxes = torch.where(blank, boxes.new_tensor([0.5, 0.5, 0.1, 0.1]), boxes)
        if self.config.jitter:
            moved = (uniform(batch.images, boxes.shape[1], 2, salt=2) * 2 - 1) * self.config.jitter / 2
            boxes = torch.cat([boxes[..., :2] + moved * boxes[..., 2:], boxes[..., 2:]], -1).clamp(0, 1)
        embedding = queries.decoder.class_embedding
        assert embedding is not None, "required: content by class"
        content = embedding[classes].masked_fill(blank, 0.0).to(boxes.dtype)
        return {**asked(queries, boxes, content), "valid": valid}


@fp32_island
def located_distance(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Squared differences of maps (B, C, H, W) inside objects and outside: sums by 1 / cells, means over images."""
    size = (teacher.shape[2], teacher.shape[3])
    inside = scale_mask(batch, size)
    outside = background_mask(inside) * has_labels(batch)
    distance = (student - teacher).square().sum(1)  # (B, H, W)
    return (distance * inside).sum() / len(distance), (distance * outside).sum() / len(distance)
