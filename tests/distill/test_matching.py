import itertools
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from edgekd.distill.boxes import centred, cornered
from edgekd.distill.matching import (
    SPENT,
    CostWeights,
    Matches,
    detection_cost,
    focal_cost,
    giou_cost,
    l1_cost,
    match,
    match_layers,
)


def pairs_of(matches: Matches, image: int) -> set[tuple[int, int]]:
    here = matches.image_index == image
    found = zip(matches.query_index[here].tolist(), matches.target_index[here].tolist(), strict=True)
    return set(found)


def best_of_all(cost: torch.Tensor) -> tuple[int, float]:
    """By trying every choice of finite pairs: most pairs first, then the least cost."""
    few = cost if cost.shape[0] <= cost.shape[1] else cost.T
    tried = []
    for places in itertools.permutations(range(few.shape[1]), few.shape[0]):
        values = [few[row, place].item() for row, place in enumerate(places)]
        finite = [value for value in values if math.isfinite(value)]
        tried.append((-len(finite), sum(finite)))
    count, total = min(tried)
    return -count, total


@pytest.mark.parametrize("queries, targets", [(4, 4), (6, 3), (3, 6), (5, 1), (1, 5)])
def test_the_least_cost_of_all_choices_is_found(queries: int, targets: int) -> None:
    generator = torch.Generator().manual_seed(queries * 10 + targets)
    cost = torch.randn(8, queries, targets, generator=generator)
    cost[torch.rand(cost.shape, generator=generator) < 0.3] = math.nan
    cost[torch.rand(cost.shape, generator=generator) < 0.1] = math.inf
    matches = match(cost)
    for image in range(8):
        pairs = pairs_of(matches, image)
        values = [cost[image, query, target].item() for query, target in pairs]
        assert len({query for query, _ in pairs}) == len({target for _, target in pairs}) == len(pairs)
        count, total = best_of_all(cost[image])
        assert len(pairs) == count
        assert sum(values) == pytest.approx(total, abs=1e-5)


def test_each_image_is_what_scipy_says_of_it_alone() -> None:
    cost = torch.randn(5, 30, 12, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([12, 7, 1, 0, 3])
    matches = match(cost, torch.arange(12) < counts[:, None])
    for image, count in enumerate(counts.tolist()):
        expected = linear_sum_assignment(cost[image, :, :count].numpy())
        assert pairs_of(matches, image) == set(zip(*(side.tolist() for side in expected), strict=True))
    assert len(matches) == counts.sum()
    assert matches.image_index.tolist() == sorted(matches.image_index.tolist())


def test_valid_targets_may_stand_anywhere() -> None:
    cost = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(3))
    valid = torch.tensor([[False, True, False, True, True]])
    queries, places = linear_sum_assignment(cost[0][:, valid[0]].numpy())
    expected = set(zip(queries.tolist(), valid[0].nonzero().flatten()[places].tolist(), strict=True))
    assert pairs_of(match(cost, valid), 0) == expected


@pytest.mark.parametrize("shape", [(2, 4, 0), (0, 4, 3), (2, 0, 3)])
def test_nothing_to_match_gives_no_pairs(shape: tuple[int, int, int]) -> None:
    matches = match(torch.zeros(shape))
    assert len(matches) == 0
    assert matches.query_index.dtype == torch.int64
    assert matches.matched(shape[0], shape[1]).sum() == 0


def test_a_broken_query_takes_no_target() -> None:
    """The first query would be the cheapest for both, were it a number."""
    cost = torch.tensor([[[math.nan, math.nan], [1.0, 5.0], [2.0, 3.0]]])
    assert pairs_of(match(cost), 0) == {(1, 0), (2, 1)}
    assert len(match(torch.full((1, 3, 2), math.nan))) == 0


def test_a_pair_of_infinite_cost_is_left_out_rather_than_taken() -> None:
    """Two queries and two targets of which one fits nobody: one pair remains."""
    cost = torch.tensor([[[1.0, math.inf], [0.5, math.inf]]])
    assert pairs_of(match(cost), 0) == {(1, 0)}


def test_more_pairs_go_before_cheaper_ones() -> None:
    cost = torch.tensor([[[0.0, 1000.0], [math.inf, 0.0]], [[1000.0, 0.0], [0.0, math.inf]]])
    assert pairs_of(match(cost), 0) == {(0, 0), (1, 1)}
    assert pairs_of(match(cost), 1) == {(0, 1), (1, 0)}
    dear = torch.tensor([[[0.0, 1000.0], [1000.0, math.inf]]])
    assert pairs_of(match(dear), 0) == {(0, 1), (1, 0)}


def test_matched_values_stand_side_by_side() -> None:
    cost = torch.tensor([[[9.0, 1.0], [2.0, 9.0], [5.0, 5.0]]])
    matches = match(cost)
    assert matches.of_queries(torch.tensor([[10, 11, 12]])).tolist() == [10, 11]
    assert matches.of_targets(torch.tensor([[20, 21]])).tolist() == [21, 20]
    assert matches.matched(1, 3).tolist() == [[True, True, False]]


def test_costs_by_hand() -> None:
    """One query at probability 1/2, one box beside another of its size, images of 100 by 200 px."""
    boxes, targets = torch.tensor([[[0.0, 0, 20, 10]]]), torch.tensor([[[20.0, 0, 40, 10]]])
    assert focal_cost(torch.zeros(1, 1, 1)).item() == pytest.approx((0.25 - 0.75) * 0.25 * math.log(2))
    assert giou_cost(boxes, targets).item() == pytest.approx(0.0, abs=1e-6)  # they fill their hull, and do not meet
    size = (100, 200)
    assert l1_cost(centred(boxes, size), centred(targets, size)).item() == pytest.approx(0.1)
    total = detection_cost(torch.zeros(1, 1, 3), boxes, torch.tensor([[2]]), targets, size)
    assert total.item() == pytest.approx(2 * -0.125 * math.log(2) + 5 * 0.1, abs=1e-5)


def test_the_class_cost_is_that_of_the_targets_class() -> None:
    logits = torch.tensor([[[4.0, -4.0], [-4.0, 4.0]]])
    boxes = torch.tensor([[[0.0, 0, 10, 10]]]).expand(1, 2, 4)
    cost = detection_cost(logits, boxes, torch.tensor([[1, 0]]), boxes, (64, 64), CostWeights(l1=0, giou=0))
    assert pairs_of(match(cost), 0) == {(0, 1), (1, 0)}


def test_costs_are_float32_under_autocast() -> None:
    logits, boxes = torch.randn(1, 4, 3).bfloat16(), (torch.rand(1, 4, 4) * 50).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        cost = detection_cost(logits, boxes, torch.zeros(1, 2, dtype=torch.int64), boxes[:, :2], (64, 64))
    assert cost.dtype == torch.float32


def test_cost_equals_deformable_detrs() -> None:
    loss = pytest.importorskip("transformers.loss.loss_deformable_detr", reason="the `transformers` package")
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 9, 4, generator=generator)
    low = torch.rand(2, 9, 2, generator=generator) * 50
    boxes = torch.cat([low, low + 5 + torch.rand(2, 9, 2, generator=generator) * 40], 2)
    targets, classes = boxes[:, :3] + 4, torch.randint(4, (2, 3), generator=generator)
    matcher = loss.DeformableDetrHungarianMatcher(class_cost=2, bbox_cost=5, giou_cost=2)
    outputs = {"logits": logits, "pred_boxes": centred(boxes, (120, 160))}
    wanted = [
        {"class_labels": ids, "boxes": centred(rows, (120, 160))} for ids, rows in zip(classes, targets, strict=True)
    ]
    ours = match(detection_cost(logits, boxes, classes, targets, (120, 160)))
    for image, (queries, places) in enumerate(matcher(outputs, wanted)):
        assert pairs_of(ours, image) == set(zip(queries.tolist(), places.tolist(), strict=True))


def test_corners_and_centres_are_inverse() -> None:
    boxes = torch.tensor([[10.0, 20, 50, 40], [0.0, 0, 160, 120]])
    expected = torch.tensor([[30 / 160, 30 / 120, 40 / 160, 20 / 120], [0.5, 0.5, 1.0, 1.0]])
    torch.testing.assert_close(centred(boxes, (120, 160)), expected)
    torch.testing.assert_close(cornered(centred(boxes, (120, 160)), (120, 160)), boxes)


def test_layers_are_matched_as_each_by_itself() -> None:
    """Large enough for threads; some targets are none."""
    generator = torch.Generator().manual_seed(3)
    costs = [torch.rand(3, 110, 120, generator=generator) for _ in range(2)]
    valid = torch.rand(3, 120, generator=generator) > 0.2
    for cost, found in zip(costs, match_layers(costs, valid), strict=True):
        alone = match(cost, valid)
        for name in ("image_index", "query_index", "target_index"):
            assert torch.equal(getattr(found, name), getattr(alone, name))
        for image in range(3):
            places = valid[image].nonzero().flatten()
            rows, columns = linear_sum_assignment(cost[image][:, places].numpy())
            assert pairs_of(found, image) == set(zip(rows.tolist(), places[columns].tolist(), strict=True))


def test_time_is_taken() -> None:
    SPENT.take()
    match(torch.rand(2, 50, 50))
    assert SPENT.take() > 0
    assert SPENT.take() == 0
