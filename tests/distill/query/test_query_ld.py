"""Query LD by hand, against NumPy's interpolation, and between D-FINE and DEIMv2."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekd.detectors.box_bins import BoxBins, edges_of
from edgekd.detectors.queries import QueryPredictions
from edgekd.distill.query.query_ld import distribution_loss, moved
from edgekd.distill.requirements import query_distributions, unmet
from tests.detectors.transformers.test_inside import detector_of

from ..helpers import build, pair_of, terms
from ..query_scene import NAMES, opened
from .fakes import BOXES, LOGITS, one_object, output, predictions, query_spec

SHIFTS = torch.tensor([-0.5, -0.25, 0.0, 0.25, 0.5])


def test_moved_by_hand() -> None:
    """0 lies two thirds of the way from -1 to 0.5, 1 a fifth and 2 three fifths of that from 0.5 to 3."""
    found = moved(torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.0, 1, 2]), torch.tensor([-1, 0.5, 3]))
    assert found.tolist() == pytest.approx([0.2 / 3, 0.2 * 2 / 3 + 0.3 * 0.8 + 0.5 * 0.4, 0.3 * 0.2 + 0.5 * 0.6])


def test_moved_is_linear_interpolation() -> None:
    """Each bin's share is the sum of its hat at all places, as NumPy interpolates."""
    numbers = torch.Generator().manual_seed(0)
    shares = torch.rand(4, 6, generator=numbers).softmax(-1)
    theirs = torch.rand(4, 6, generator=numbers).mul(12).sub(1).sort(-1).values
    ours = torch.rand(4, 9, generator=numbers).mul(10).sort(-1).values
    ours[:2, 0], ours[:2, -1] = -1.0, 11.0  # these reach everywhere
    found = moved(shares, theirs, ours)
    hats = [[np.interp(theirs[row], ours[row], np.eye(9)[bin_]) for bin_ in range(9)] for row in range(4)]
    np.testing.assert_allclose(found, np.einsum("rn,rmn->rm", shares, np.stack(hats)), atol=1e-6)
    torch.testing.assert_close(found.sum(-1), torch.ones(4))
    inside = ((theirs > ours[:, :1]) & (theirs < ours[:, -1:])).all(-1)
    assert inside.any() and not inside.all()
    means = [(part * place).sum(-1)[inside] for part, place in ((found, ours), (shares, theirs))]
    torch.testing.assert_close(*means)


def test_places_of_bins_by_hand() -> None:
    """A box from (10, 20) to (50, 100), 40 wide and 80 high; a quarter outwards is 10 and 20 px."""
    found = BoxBins(torch.tensor([10.0, 20, 50, 100]), SHIFTS).outwards_px()
    assert found[:, 3].tolist() == [-0.0, 0.0, 60.0, 120.0] and found[:, 2].tolist() == [-10.0, -20.0, 50.0, 100.0]
    assert edges_of(found[:, 3]).tolist() == [0.0, 0.0, 60.0, 120.0]
    assert (found.diff(dim=-1) > 0).all()


def test_loss_by_hand() -> None:
    """Two queries of weights 0.5 and 0.25, whose sum is below 1; the second agrees. T = 2: four times log 2."""
    ours = torch.zeros(2, 4, 2)
    wanted = torch.tensor([[1.0, 0.0], [0.5, 0.5]])[:, None].expand(2, 4, 2)
    found = distribution_loss(ours, wanted, torch.tensor([0.5, 0.25]), 2.0)
    assert float(found) == pytest.approx(0.5 * 4 * math.log(2))


def of_one(logits: Tensor, origins: Tensor) -> QueryPredictions:
    return predictions(LOGITS, BOXES, box_logits=logits[None], bins=BoxBins(origins[None], SHIFTS))


def sure_of(places: list[int]) -> Tensor:
    """(1, 3, 4, 5) logits: all edges as likely at each of these bins, and nowhere else."""
    logits = torch.full((1, 3, 4, 5), -60.0)
    logits[..., places] = 0.0
    return logits


def test_other_boxes_to_begin_with_are_no_difference() -> None:
    """The teacher begins with boxes of twice the side: a quarter of that inwards is where the student's do not move."""
    method = build("query_ld", query_spec("s", bins=5), query_spec("t", bins=5))
    side = (BOXES[..., 2:] - BOXES[..., :2]).repeat(1, 1, 2) * torch.tensor([-1.0, -1, 1, 1])
    outer = BOXES + side / 2
    found = terms(method, output(of_one(sure_of([2]), BOXES)), output(of_one(sure_of([1]), outer)), one_object())
    assert set(found) == {"box"} and float(found["box"]) == pytest.approx(0, abs=1e-4)
    far = terms(method, output(of_one(sure_of([2]), BOXES)), output(of_one(sure_of([2]), outer)), one_object())
    assert float(far["box"]) > 10


def test_only_sure_queries_of_the_teacher_teach() -> None:
    """Scores 0.881, 0.731, 0.119: of at least 0.2 two. The teacher shares among two bins, the student among five."""
    method = build("query_ld", query_spec("s", bins=5), query_spec("t", bins=5), min_confidence=0.2)
    student = of_one(torch.zeros(1, 3, 4, 5), BOXES)
    found = terms(method, output(student), output(of_one(sure_of([2, 3]), BOXES)), one_object())
    assert float(found["box"]) == pytest.approx(math.log(5) - math.log(2), rel=1e-5)


def test_a_teacher_that_is_sure_of_nothing_teaches_nothing() -> None:
    method = build("query_ld", query_spec("s", bins=5), query_spec("t", bins=5), min_confidence=0.95)
    logits = torch.zeros(1, 3, 4, 5, requires_grad=True)
    (loss,) = terms(method, output(of_one(logits, BOXES)), output(of_one(sure_of([2]), BOXES)), one_object()).values()
    assert float(loss.detach()) == 0.0
    torch.autograd.backward(loss)
    assert logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize(("student", "teacher"), [("dfine-p", "deimv2-p"), ("deimv2-p", "dfine-p")])
def test_between_families(student: str, teacher: str) -> None:
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    ours, theirs = detector_of(student, NAMES), detector_of(teacher, NAMES)
    assert unmet((query_distributions,), pair_of(ours.spec, theirs.spec, NAMES)) == []


def test_heads_without_a_distribution_are_refused() -> None:
    pair = pair_of(opened("rtdetr-p").spec, opened("rtdetr-n").spec, NAMES)
    assert unmet((query_distributions,), pair) == [
        "needs box distributions of queries on both sides, as D-FINE and DEIMv2 have them; student rtdetr-p has none, "
        "teacher rtdetr-n has none"
    ]
