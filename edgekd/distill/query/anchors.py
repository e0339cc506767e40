"""Points of a dense student at which a query detector is asked: the anchor-to-query form of KD-DETR.

A query is made for a point: its reference box is a square about the point, of some strides of its level, and its
content is what the asked detector itself puts there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgekd.detectors.outputs import DensePredictions
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.spec import DenseHead
from edgekd.distill.query.asking import asked
from edgekd.distill.query.places import uniform


def answers_at_points(
    queries: QueryPredictions, images: Tensor, head: DenseHead, side: float, count: int, found_px: Tensor
) -> dict[str, Tensor]:
    """What a query detector says at points of a dense head: `places` (B, P), `logits` and `answers` (B, 1, P, ...).

    Its last layer's: a dense head has no other that could learn.

    Args:
        side: of the square about a point, in strides.
        count: random points.
        found_px: (B, Q, 4), boxes whose points are asked about, too; each of the two groups for itself.
    """
    points, strides = grid(head, images)
    groups = [random_points(points, images, count)] if count else []
    groups += [points_of_boxes(found_px, points, strides, side)] if found_px.shape[1] else []
    squares = boxes_at(points, strides, side, images)
    answers = [asked(queries, squares[places]) for places in groups]
    kept = {name: torch.cat([one[name][:, -1:] for one in answers], 2) for name in ("logits", "answers")}
    return {"places": torch.cat(groups, 1), **kept}


def grid(head: DenseHead, images: Tensor) -> tuple[Tensor, Tensor]:
    """Points (A, 2) in px and strides (A,) of a dense head with one prediction at each, finest level first."""
    height, width = images.shape[-2:]
    points, strides = [], []
    for stride in head.strides:
        y, x = (
            (torch.arange(-(-side // stride), device=images.device) + head.point_offset) * stride
            for side in (height, width)
        )
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack([columns, rows], -1).reshape(-1, 2))
        strides.append(points[-1].new_full((len(points[-1]),), stride))
    return torch.cat(points), torch.cat(strides)


def boxes_at(points: Tensor, strides: Tensor, side: float, images: Tensor) -> Tensor:
    """(A, 4), centre and size in 0..1 of the images: a square of `side` strides about each point."""
    height, width = images.shape[-2:]
    size = points.new_tensor([width, height])
    return torch.cat([points / size, (side * strides)[:, None] / size], -1)


def random_points(points: Tensor, images: Tensor, count: int) -> Tensor:
    """(B, count) int64, places among the points; a point may come twice."""
    return (uniform(images, count, 1, salt=1).squeeze(-1) * len(points)).long().clamp_max(len(points) - 1)


def points_of_boxes(boxes_px: Tensor, points: Tensor, strides: Tensor, side: float) -> Tensor:
    """(B, Q) int64, for each box (B, Q, 4) the point nearest to its centre, of the level whose squares fit it best."""
    centre = (boxes_px[..., :2] + boxes_px[..., 2:]) / 2
    extent = (boxes_px[..., 2:] - boxes_px[..., :2]).clamp_min(1).prod(-1).sqrt()
    levels = torch.unique(strides)
    fits = (extent.unsqueeze(-1) / (side * levels)).log2().abs().argmin(-1)  # (B, Q)
    distance = torch.cdist(centre, points.expand(len(boxes_px), -1, -1))
    return distance.masked_fill(strides != levels[fits].unsqueeze(-1), float("inf")).argmin(-1)


def at_points(predictions: DensePredictions, place: Tensor) -> tuple[Tensor, Tensor]:
    """Class logits (B, P, K) and boxes (B, P, 4) in px of a dense head's points (B, P)."""
    rows = torch.arange(len(place), device=place.device)[:, None]
    return predictions.class_logits[rows, place], predictions.boxes_px[rows, place]
