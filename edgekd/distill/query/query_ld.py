"""Query LD: localization distillation between the box distributions of matched queries.

Localization Distillation for Dense Object Detection, Zheng et al., CVPR 2022, arXiv 2102.12252, brought to decoders of
queries with the distributions of D-FINE, Peng et al., ICLR 2025, arXiv 2410.13842. No paper has this method; D-FINE's
own self-distillation compares layers of one network, whose distributions begin with the same box. Code:
github.com/HikariTJU/LD, github.com/Peterande/D-FINE.

    s = matching of the student's queries and the teacher's sure ones, at the least cost (classes, l1, giou)
    q_T, q_S = softmax(r / T) over bins
    q'_T[m] = sum over n of q_T[n] h_m(e_T[n]),   e the place of a bin's edge in the image, h_m the student's m-th hat
    KD(edge) = T^2 * sum over m of q'_T (log q'_T - log q_S)
    w_i = max over known k of sigmoid(z_T[i, k])
    L = sum over i of w_i * mean over 4 edges of KD / max(1, sum over i of w_i)

A bin says how far an edge moves from the box with which the query's refinement began, and two detectors' matched
queries began with other boxes: equal logits would mean unequal edges. So the teacher's distribution is moved onto the
student's bins: what lies between two of them is shared out linearly, which keeps its mean; what lies beyond the last
stays there. Numbers of bins may differ.

**Reduction**: sum over bins, mean over edges, weighted mean over the matched queries of the batch, mean over layers. T,
the weight by the teacher's score and the least score are those of `ld`. UNVERIFIED: no figures of others exist.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.box_bins import BoxBins
from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.spec import Needs, Part
from edgekd.distill.adapters import fp32_island
from edgekd.distill.config import Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.matching import Matches
from edgekd.distill.queries import (
    Answers,
    QueryConfig,
    best_scores,
    known_classes,
    layer_pairs,
    matched_answers,
    mean_of,
)
from edgekd.distill.query.asking import rows_at
from edgekd.distill.requirements import all_layers_of_teacher, query_distributions, query_heads, shared_classes

_OF_LAYERS = ("logits", "boxes", "box_logits", "origins")


class QueryLDConfig(QueryConfig):
    """Keys of `query_ld`."""

    weight: Weight = Field(1.0, description="factor; 1..4 at temperature 1")
    temperature: float = Field(1.0, gt=0, le=100, description="of the box distributions")
    min_confidence: float = Field(0.05, ge=0, lt=1, description="the teacher's queries below it teach nothing")
    matched: int = Field(300, ge=1, le=2000, description="of the teacher's queries, the best, that are matched")
    classes: float = Field(1.0, ge=0, description="factor on classes in the cost of a match")
    l1: float = Field(5.0, ge=0, description="factor on the L1 distance of boxes, relative to the image, there")
    giou: float = Field(2.0, ge=0, description="factor on 1 - GIoU there")


@fp32_island
def moved(shares: Tensor, theirs: Tensor, ours: Tensor) -> Tensor:
    """A distribution over places as one over other places, with the same mean as far as these reach.

    Args:
        shares: (..., n), of `theirs`.
        theirs: (..., n).
        ours: (..., m), ascending.

    Returns:
        (..., m).
    """
    above = torch.searchsorted(ours.contiguous(), theirs.contiguous()).clamp(1, ours.shape[-1] - 1)
    low, high = ours.gather(-1, above - 1), ours.gather(-1, above)
    part = ((theirs - low) / (high - low).clamp_min(torch.finfo(ours.dtype).tiny)).clamp(0, 1)
    found = torch.zeros_like(ours).scatter_add(-1, above - 1, shares * (1 - part))
    return found.scatter_add(-1, above, shares * part)


@fp32_island
def distribution_loss(ours: Tensor, wanted: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Weighted mean of the KL divergence of box distributions.

    Args:
        ours: (P, 4, bins) logits.
        wanted: (P, 4, bins), the teacher's softened distribution on the same bins.
        weight: (P,).
    """
    log_ours = F.log_softmax(ours / temperature, dim=-1)
    divergence = (torch.xlogy(wanted, wanted) - wanted * log_ours).sum(-1).mean(-1)
    return (divergence * weight).sum() * temperature**2 / weight.sum().clamp_min(1.0)


@register("query_ld")
class QueryLD(Distiller):
    """Teaches where the edges of matched queries lie and how sure that is."""

    config_type = QueryLDConfig
    card = Card(
        about="box distributions of matched queries, moved onto the student's bins",
        title="Localization Distillation for Dense Object Detection",
        venue="CVPR 2022",
        level="query",
        arxiv="2102.12252",
        code="github.com/HikariTJU/LD",
        gain="not published between decoders of queries",
    )
    requires = (query_heads, query_distributions, all_layers_of_teacher, shared_classes)
    decided_by = frozenset({"layers", "matched"})
    config: QueryLDConfig
    known: Tensor | None

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.register_buffer("known", known_classes(pair), persistent=False)
        self.pairs = layer_pairs(pair, self.config.layers, self.name)
        both: set[Part] = {"class_logits", "boxes"}
        return Wiring(Needs(parts=frozenset(both)), Needs(parts=frozenset(both | {"layers"})))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """Of the best queries of each layer that teaches, one layer after the other (B, layers * matched, ...):
        `logits`, `boxes`, `box_logits` of all edges, and `origins`; and `shifts` (B, bins)."""
        queries = teacher.queries
        assert queries is not None
        rows = [self._best(queries, layer) for _, layer in self.pairs]
        kept = {name: torch.cat([row[name] for row in rows], 1) for name in rows[0]}
        return {**kept, "shifts": _bins(queries).shifts.expand(batch.size, -1)}

    def _best(self, queries: QueryPredictions, layer: int) -> dict[str, Tensor]:
        row = queries.layers.index(layer)
        assert queries.box_logits is not None
        found = {
            "logits": queries.class_logits[row], "boxes": queries.boxes_px[row],
            "box_logits": queries.box_logits[row].flatten(2), "origins": _bins(queries).origins_px[row],
        }  # fmt: skip
        scores = best_scores(found["logits"], self.known)
        best = scores.topk(min(self.config.matched, scores.shape[1]), dim=1).indices
        return {name: rows_at(value, best) for name, value in found.items()}

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`box`, a mean over layers."""
        queries = student.queries
        assert queries is not None
        apart = {name: knowledge[name].chunk(len(self.pairs), 1) for name in _OF_LAYERS}
        kept = [{name: parts[place] for name, parts in apart.items()} for place in range(len(self.pairs))]
        ours = [Answers.of_layer(queries, layer) for layer, _ in self.pairs]
        theirs = [Answers(one["logits"], one["boxes"]) for one in kept]
        sure = [best_scores(one["logits"], self.known) >= self.config.min_confidence for one in kept]
        matched = matched_answers(ours, theirs, batch, self.config, self.known, sure)
        found = [
            self._of_layer(queries, queries.layers.index(layer), one, knowledge["shifts"][0], pairs)
            for (layer, _), one, pairs in zip(self.pairs, kept, matched, strict=True)
        ]
        return mean_of([{"box": value} for value in found])

    def _of_layer(
        self, queries: QueryPredictions, row: int, kept: Mapping[str, Tensor], shifts: Tensor, pairs: Matches
    ) -> Tensor:
        assert queries.box_logits is not None
        own, temperature = _bins(queries), self.config.temperature
        mine = BoxBins(pairs.of_queries(own.origins_px[row]), own.shifts)
        its = BoxBins(pairs.of_targets(kept["origins"]), shifts)
        logits = pairs.of_targets(kept["box_logits"]).reshape(len(pairs), 4, len(shifts))
        wanted = moved(F.softmax(logits.float() / temperature, dim=-1), its.outwards_px(), mine.outwards_px())
        weight = pairs.of_targets(best_scores(kept["logits"], self.known))
        return distribution_loss(pairs.of_queries(queries.box_logits[row]), wanted, weight, temperature)


def _bins(queries: QueryPredictions) -> BoxBins:
    assert queries.bins is not None  # as `query_distributions` says
    return queries.bins
