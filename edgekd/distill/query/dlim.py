"""DLIM-Det: boxes of matched queries, and which queries look at which.

Distilling Knowledge from Large-Scale Image Models for Object Detection, Li et al., ECCV 2024,
doi 10.1007/978-3-031-72907-2_9. No code.

    s = Hungarian(2 KL(p_T || p_S) + 5 |b_T - b_S|_1 - 2 GIoU) of the student's queries with some of the teacher's
    L_qpd = 1 / M x sum over the M pairs of (5 |b_T - b_S|_1 + 2 (1 - GIoU))
    L_qrd = 1 / M x sum over pairs i, j of |A_T[i, j] - A_S[s(i), s(j)]|,   A: self-attention, a mean over heads
    L = 2 L_qpd + 1 L_qrd

**Reduction**: as the equations say, M the pairs of the batch; means over the layers that learn.

In each step `matched` (300) queries of the teacher are drawn for the matching, as in the paper, where 300 of 900 did
better than all.

Its students inherit the teacher's decoder, and its teacher keeps a large backbone frozen and trains the rest: write
`student: {inherit: [head]}`, and `train.freeze` in the teacher's own recipe. Both decoders must have as many layers;
widths may differ.

Differs from the paper: there L_qpd is a sum; here both are divided by the number of pairs. Rows of attention are
compared over the matched queries alone, as they are, not normalised anew.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.parts import Attention
from edgekd.detectors.spec import Needs, Part
from edgekd.distill.adapters import fp32_island
from edgekd.distill.boxes import box_loss
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.matching import Matches
from edgekd.distill.queries import (
    Answers,
    QueryConfig,
    known_classes,
    l1_distance,
    layer_pairs,
    matched_answers,
    mean_of,
)
from edgekd.distill.requirements import all_layers_of_teacher, query_heads, same_layers, self_attentions, shared_classes


class DLIMConfig(QueryConfig):
    """Keys of `dlim`."""

    classes: float = Field(2.0, ge=0, description="of classes, in the cost of the matching alone")
    prediction: float = Field(2.0, ge=0, description="factor on the boxes of matched queries")
    relation: float = Field(1.0, ge=0, description="factor on their self-attention")
    matched: int = Field(300, ge=1, le=2000, description="of the teacher's queries, drawn in each step")


@register("dlim")
class DLIM(Distiller):
    """The student's queries stand where the teacher's do, and look at each other as those do."""

    config_type = DLIMConfig
    card = Card(
        about="boxes and self-attention of matched queries",
        title="Distilling Knowledge from Large-Scale Image Models for Object Detection",
        venue="ECCV 2024",
        level="query",
        gain="DINO Swin-L to Swin-T on COCO 51.3 to 54.4 AP, R101 to R50 48.9 to 49.8",
    )
    requires = (query_heads, same_layers, all_layers_of_teacher, self_attentions, shared_classes)
    decided_by = frozenset({"layers"})
    config: DLIMConfig
    known: Tensor | None

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.register_buffer("known", known_classes(pair), persistent=False)
        self.pairs = layer_pairs(pair, self.config.layers, self.name)
        both: set[Part] = {"class_logits", "boxes"}
        ours: set[Part] = {Attention("self", layer) for layer, _ in self.pairs}
        theirs: set[Part] = {Attention("self", layer) for _, layer in self.pairs}
        return Wiring(Needs(parts=frozenset(both | ours)), Needs(parts=frozenset(both | theirs | {"layers"})))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """`logits`, `boxes` (B, D, Q, ...), and `attention` (B, layers that teach, Q, Q)."""
        queries = teacher.queries
        assert queries is not None
        return {
            "logits": queries.class_logits.transpose(0, 1), "boxes": queries.boxes_px.transpose(0, 1),
            "attention": torch.stack([queries.self_attention(layer) for _, layer in self.pairs], 1),
        }  # fmt: skip

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`prediction` and `relation`."""
        queries = student.queries
        assert queries is not None
        device, count = batch.images.device, knowledge["logits"].shape[2]
        drawn = torch.randperm(count, generator=moment.generator, device=device)[: self.config.matched]
        ours = [Answers.of_layer(queries, layer) for layer, _ in self.pairs]
        theirs = [Answers(knowledge["logits"][:, it, drawn], knowledge["boxes"][:, it, drawn]) for _, it in self.pairs]
        matched = matched_answers(ours, theirs, batch, self.config, self.known)
        attention = knowledge["attention"][:, :, drawn][..., drawn].unbind(1)
        looks = zip((queries.self_attention(layer) for layer, _ in self.pairs), attention, strict=True)
        return mean_of(
            [
                {
                    "prediction": self.config.prediction * self._boxes(own, other, pairs, batch),
                    "relation": self.config.relation * relation_loss(*sides, pairs),
                }
                for own, other, pairs, sides in zip(ours, theirs, matched, looks, strict=True)
            ]
        )

    def _boxes(self, ours: Answers, theirs: Answers, pairs: Matches, batch: Batch) -> Tensor:
        own, other = pairs.of_queries(ours.boxes_px), pairs.of_targets(theirs.boxes_px)
        apart = self.config.l1 * l1_distance(own, other, batch) + self.config.giou * box_loss(own, other)
        return apart.sum() / max(1, len(pairs))


@fp32_island
def relation_loss(ours: Tensor, theirs: Tensor, pairs: Matches) -> Tensor:
    """Sum over an image's pairs i, j of |A_T[i, j] - A_S[s(i), s(j)]|, by the number of all pairs.

    Args:
        ours, theirs: (B, Q, Q) and (B, G, G).
    """
    image, place = pairs.image_index, torch.full(ours.shape[:2], -1, device=ours.device)
    place[image, pairs.query_index] = pairs.target_index  # whom each query of the student answers for
    both = (place.unsqueeze(2) >= 0) & (place.unsqueeze(1) >= 0)
    rows = torch.arange(len(ours), device=ours.device)[:, None, None]
    known = place.clamp_min(0)
    apart = (ours - theirs[rows, known.unsqueeze(2), known.unsqueeze(1)]).abs()
    return (apart * both).sum() / max(1, len(pairs))
