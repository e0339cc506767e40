from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgekd.detectors.rtmdet import assigner
from edgekd.detectors.rtmdet.assigner import assign
from edgekd.detectors.rtmdet.decode import grid


def points(sizes: tuple[tuple[int, int], ...] = ((4, 4),), strides: tuple[int, ...] = (8,)) -> tuple[Tensor, Tensor]:
    return grid(sizes, strides, torch.device("cpu"))


def test_points_are_the_corners_of_cells() -> None:
    places, strides = points(((1, 2), (1, 1)), (8, 16))
    assert places.tolist() == [[0, 0], [8, 0], [0, 0]]
    assert strides.tolist() == [8, 8, 16]


def test_by_hand() -> None:
    """A box over nine points, each of which predicts a quarter of it: the sum of IoUs is 2.25, so two are positive.
    Of equal scores the point in the centre is one; the other is the one whose score is the IoU."""
    places, strides = points()
    truth = torch.tensor([[4.0, 4.0, 28.0, 28.0]])
    boxes = torch.tensor([4.0, 4.0, 16.0, 16.0]).expand(1, 16, 4)
    logits = torch.zeros(1, 16, 2)
    logits[0, 4 * 1 + 3, 1] = math.log(0.25 / 0.75)  # at (24, 8)
    matched, quality = assign(
        logits, boxes, places, strides, truth[None], torch.tensor([[1]]), torch.ones(1, 1, dtype=torch.bool)
    )
    positives = {4 * 2 + 2, 4 * 1 + 3}  # cells of (16, 16) and (24, 8)
    assert set(torch.nonzero(matched[0] == 0).flatten().tolist()) == positives
    assert set(torch.nonzero(matched[0] < 0).flatten().tolist()) == set(range(16)) - positives
    expected = [0.25 if place in positives else 0.0 for place in range(16)]
    assert quality[0].tolist() == pytest.approx(expected)


def test_a_box_without_any_overlap_gets_one_point() -> None:
    places, strides = points()
    matched, quality = assign(
        torch.zeros(1, 16, 1), torch.full((1, 16, 4), 500.0), places, strides,
        torch.tensor([[[4.0, 4.0, 28.0, 28.0]]]), torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1).bool(),
    )  # fmt: skip
    assert torch.nonzero(matched[0] == 0).flatten().tolist() == [10]  # the one in its centre
    assert quality.sum() == 0


def test_nothing_is_assigned_without_objects() -> None:
    places, strides = points()
    logits, boxes = torch.zeros(2, 16, 1), torch.zeros(2, 16, 4)
    none = torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.bool)
    filled = torch.zeros(2, 1, 4), torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.bool)
    between = torch.tensor([[[9.0, 9.0, 15.0, 15.0]]]).expand(2, 1, 4), filled[1], torch.ones(2, 1, dtype=torch.bool)
    for truth in (none, filled, between):
        matched, quality = assign(logits, boxes, places, strides, *truth)
        assert (matched == -1).all()
        assert not quality.any()


@pytest.mark.parametrize("at_once", [1, 1 << 23])
def test_equals_a_plain_implementation(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assigner, "_MOST_PAIRS", at_once)
    generator = torch.Generator().manual_seed(0)
    places, strides = points(((8, 8), (4, 4), (2, 2)), (8, 16, 32))
    count = len(places)
    logits = torch.randn(3, count, 4, generator=generator) * 2 - 1
    reach = torch.rand(3, count, 4, generator=generator) * 2 * strides[:, None]
    boxes = torch.cat([places - reach[..., :2], places + reach[..., 2:]], -1)
    corner = torch.rand(3, 5, 2, generator=generator) * 40
    gt_boxes = torch.cat([corner, corner + 3 + torch.rand(3, 5, 2, generator=generator) * 40], -1)
    classes = torch.randint(0, 4, (3, 5), generator=generator)
    present = torch.tensor([[True] * 5, [True, True, True, False, False], [False] * 5])
    matched, quality = assign(logits, boxes, places, strides, gt_boxes, classes, present)
    several = 0
    for image in range(3):
        own = present[image]
        wanted, overlaps, shared = plain(
            logits[image], boxes[image], places, strides, gt_boxes[image][own], classes[image][own]
        )
        several += shared
        assert matched[image].tolist() == wanted
        assert quality[image].tolist() == pytest.approx(overlaps, abs=1e-6)
    assert several > 0, "no point was wanted by two boxes, so the case was not tried"


def plain(
    logits: Tensor, boxes: Tensor, places: Tensor, strides: Tensor, truth: Tensor, classes: Tensor
) -> tuple[list[int], list[float], int]:
    """The rule as the paper states it, point by point and box by box, in Python's own numbers."""
    count = len(places)
    matched, quality = [-1] * count, [0.0] * count
    rows = [list(map(float, box)) for box in truth]
    candidates = [
        place for place, (x, y) in enumerate(places.tolist())
        if any(left < x < right and top < y < bottom for left, top, right, bottom in rows)
    ]  # fmt: skip
    overlap = {(p, g): iou(boxes[p].tolist(), box) for p in candidates for g, box in enumerate(rows)}
    cost = {}
    for p in candidates:
        for g, (left, top, right, bottom) in enumerate(rows):
            classification = 0.0
            for k, logit in enumerate(logits[p].tolist()):
                target = overlap[p, g] if k == int(classes[g]) else 0.0
                score = 1 / (1 + math.exp(-logit))
                entropy = -(target * math.log(score) + (1 - target) * math.log(1 - score))
                classification += entropy * (target - score) ** 2
            x, y = places[p].tolist()
            distance = math.hypot(x - (left + right) / 2, y - (top + bottom) / 2) / float(strides[p])
            cost[p, g] = classification - 3 * math.log(overlap[p, g] + 1e-7) + 10 ** (distance - 3)
    wanted: dict[int, list[int]] = {}
    for g in range(len(rows)):
        number = max(1, int(sum(sorted((overlap[p, g] for p in candidates), reverse=True)[:13])))
        for p in sorted(candidates, key=lambda p, g=g: cost[p, g])[:number]:
            wanted.setdefault(p, []).append(g)
    for p, by in wanted.items():
        best = by[0] if len(by) == 1 else min(range(len(rows)), key=lambda g, p=p: cost[p, g])
        matched[p], quality[p] = best, overlap[p, best]
    return matched, quality, sum(len(by) > 1 for by in wanted.values())


def iou(first: list[float], second: list[float]) -> float:
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / max(sum(areas) - width * height, 1e-6)
