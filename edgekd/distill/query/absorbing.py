"""What extractors are trained with: the detection loss of Deformable DETR on what their heads say.

    L = 1 / N' sum over matched queries (5 |b - b*|_1 + 2 (1 - GIoU)) + 2 / N sum over all queries FL(c, c*)

Per image, then the mean over images; N' is the number of matched queries, at least 1. Focal loss has alpha 0.25 and
gamma 2. This is UniKD's equation 6; Deformable DETR, whose settings it otherwise follows, divides both parts by N'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.distill.adapters import fp32_island
from edgekd.distill.boxes import box_loss, centred, cornered
from edgekd.distill.matching import DEFORMABLE_DETR, Matches, detection_cost, match
from edgekd.distill.queries import image_size
from edgekd.distill.query.probes import Probes
from edgekd.distill.query.set_loss import focal_loss

DividedBy: TypeAlias = Literal["queries", "objects"]


def matched_with_objects(logits: Tensor, boxes: Tensor, batch: Batch) -> Matches:
    """Bipartite matching of queries with the ground truth of their images.

    Args:
        logits: (B, N, K).
        boxes: (B, N, 4), centre and size in 0..1.

    Returns:
        `target_index` counts the rows of the batch's ground truth.
    """
    size, rows = image_size(batch), batch.rows
    some = rows.clamp_min(0)
    targets = batch.boxes_px.to(boxes.dtype)[some]
    cost = detection_cost(logits, cornered(boxes, size), batch.class_ids[some], targets, size)
    found = match(cost, rows >= 0)
    return Matches(found.image_index, found.query_index, rows[found.image_index, found.target_index])


def matched_with_own(probes: Probes) -> Matches:
    """Each positional query with the object that it was jittered from; targets as in `matched_with_objects`."""
    images, queries = probes.positive.nonzero().unbind(1)
    return Matches(images, queries, probes.rows[images, queries])


@fp32_island
def detection_loss(
    logits: Tensor, boxes: Tensor, matches: Matches, batch: Batch, divided_by: DividedBy = "queries"
) -> Mapping[str, Tensor]:
    """`class` and `box`, weighted; see above.

    Args:
        logits: (B, N, K).
        boxes: (B, N, 4), centre and size in 0..1.
        matches: targets are rows of the batch's ground truth.
        divided_by: what the class loss of an image is divided by, N or N'.
    """
    size, images, factors = image_size(batch), len(logits), DEFORMABLE_DETR
    counts = torch.bincount(matches.image_index, minlength=images).clamp_min(1)
    wanted = torch.zeros_like(logits)
    wanted[matches.image_index, matches.query_index, batch.class_ids[matches.target_index]] = 1
    shares = counts if divided_by == "objects" else logits.shape[1]
    per_image = focal_loss(logits, wanted, factors.alpha, factors.gamma).sum((1, 2)) / shares
    ours, theirs = matches.of_queries(boxes), batch.boxes_px.to(boxes.dtype)[matches.target_index]
    apart = (ours - centred(theirs, size)).abs().sum(1)
    each = factors.l1 * apart + factors.giou * box_loss(cornered(ours, size), theirs)
    return {
        "class": factors.classes * per_image.mean(),
        "box": (each / counts[matches.image_index]).sum() / images + boxes.sum() * 0,
    }
