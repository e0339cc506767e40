"""Losses and costs between predictions of queries, by hand and beside scipy."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from edgekd.detectors.spec import QueryHead
from edgekd.distill.matching import match
from edgekd.distill.queries import Answers, QueryConfig, agreement, answer_cost, bernoulli_kl, layer_pairs

from .helpers import empty_batch, pair_of, spec

IMAGES = empty_batch(1, 100)  # of 100 px
FACTORS = (1.0, 5.0, 2.0)


def logit(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).logit()


def test_kl_by_hand() -> None:
    """p_T = 3/4 and p_S = 1/2: 3/4 log 3/2 + 1/4 log 1/2; a class that is not known adds nothing."""
    ours, theirs = logit(0.5, 0.9), logit(0.75, 0.1)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(bernoulli_kl(ours, theirs, torch.tensor([True, False]))) == pytest.approx(expected, rel=1e-5)
    assert float(bernoulli_kl(theirs, theirs)) == pytest.approx(0, abs=1e-6)


def test_agreement_by_hand() -> None:
    """Two rows with weights 3 and 1. The first: shifted by 10 of 100 px, IoU 1/3, GIoU 1/3; the second is equal."""
    ours = Answers(torch.zeros(2, 1), torch.tensor([[10.0, 0, 30, 20], [0, 0, 50, 50]]))
    theirs = Answers(torch.stack([logit(0.75), logit(0.5)]), torch.tensor([[0.0, 0, 20, 20], [0, 0, 50, 50]]))
    found = agreement(ours, theirs, torch.tensor([3.0, 1.0]), IMAGES, QueryConfig(), None)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(found["class"]) == pytest.approx(3 * kl / 4, rel=1e-5)
    assert float(found["l1"]) == pytest.approx(5 * 3 * 0.1 / 4, rel=1e-5)
    assert float(found["giou"]) == pytest.approx(2 * 3 * (2 / 3) / 4, rel=1e-5)
    faint = agreement(ours, theirs, torch.tensor([0.3, 0.1]), IMAGES, QueryConfig(), None)
    assert float(faint["l1"]) == pytest.approx(5 * 0.3 * 0.1, rel=1e-5), "weights below 1 in all are not made up for"


def scene(queries: int, targets: int, seed: int = 0) -> tuple[Answers, Answers]:
    generator = torch.Generator().manual_seed(seed)

    def side(count: int) -> Answers:
        corner, extent = (torch.rand(2, count, 2, generator=generator) * 50 for _ in range(2))
        logits = torch.randn(2, count, 3, generator=generator)
        return Answers(logits, torch.cat([corner, corner + extent + 1], -1))

    return side(queries), side(targets)


def test_cost_is_the_loss_of_each_pair_but_for_the_entropy() -> None:
    """The same number as the losses give, less what does not depend on the student's query."""
    ours, theirs = scene(4, 3)
    cost = answer_cost(ours, theirs, IMAGES, FACTORS)
    assert cost.shape == (2, 4, 3)
    for image in range(2):
        for target in range(3):
            losses = []
            for query in range(4):
                pair = (
                    Answers(side.logits[image, place, None], side.boxes_px[image, place, None])
                    for side, place in ((ours, query), (theirs, target))
                )
                losses.append(float(sum(agreement(*pair, torch.ones(1), IMAGES, QueryConfig(), None).values())))
            apart = [value - float(cost[image, query, target]) for query, value in enumerate(losses)]
            assert max(apart) - min(apart) < 1e-4


@pytest.mark.parametrize(("queries", "targets"), [(5, 3), (3, 5), (4, 4)])
def test_matching_is_that_of_scipy_and_the_cheapest_of_all(queries: int, targets: int) -> None:
    ours, theirs = scene(queries, targets)
    cost = answer_cost(ours, theirs, IMAGES, FACTORS)
    pairs = match(cost)
    for image in range(2):
        own = cost[image].numpy()
        chosen = pairs.image_index == image
        rows, columns = linear_sum_assignment(own)
        assert pairs.query_index[chosen].tolist() == rows.tolist()
        assert pairs.target_index[chosen].tolist() == columns.tolist()
        if queries <= targets:
            least = min(
                sum(own[row, column] for row, column in enumerate(one)) for one in permutations(range(targets), queries)
            )
            assert own[rows, columns].sum() == pytest.approx(least, rel=1e-6)


def test_unknown_classes_cost_nothing() -> None:
    ours, theirs = scene(4, 3)
    known = torch.tensor([True, False, True])
    spoilt = Answers(theirs.logits.index_fill(-1, torch.tensor([1]), 7.0), theirs.boxes_px)
    torch.testing.assert_close(
        answer_cost(ours, theirs, IMAGES, FACTORS, known), answer_cost(ours, spoilt, IMAGES, FACTORS, known)
    )


@pytest.mark.parametrize(
    ("student", "teacher", "layers", "expected"),
    [
        (6, 6, "all", ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5))),
        (3, 6, "all", ((0, 1), (1, 3), (2, 5))),
        (6, 3, "all", ((0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2))),
        (3, 4, "last", ((2, 3),)),
        (3, 6, (2, 0), ((2, 5), (0, 1))),
    ],
)
def test_layers_learn_from_those_that_lie_as_deep(
    student: int, teacher: int, layers: object, expected: tuple[tuple[int, int], ...]
) -> None:
    sides = (spec(name, head=QueryHead(count, 300, 8)) for name, count in (("s", student), ("t", teacher)))
    assert layer_pairs(pair_of(*sides), layers, "m") == expected  # type: ignore[arg-type]
