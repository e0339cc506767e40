"""Class scores and boxes at the points of a head, by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from edgekd.distill.boxes import box_loss
from edgekd.distill.searched.options import CHOICES
from edgekd.distill.searched.responses import box_distance, logit_distance, to_distances

from ..helpers import wave

OURS, THEIRS = wave(2, 5, 3), wave(2, 5, 3, phase=1.0)  # (B, A, K)
CONFIDENCE = THEIRS.sigmoid().amax(-1)
POINTS, STRIDES = torch.tensor([[8.0, 8], [24, 8]]), torch.tensor([8.0, 8])


def of_logits(transform: str, distance: str) -> float:
    return logit_distance(OURS, THEIRS, CONFIDENCE, None, transform, distance).item()


def weighted(values: torch.Tensor) -> float:
    """The mean over points of (B, A), by the teacher's confidence."""
    return ((values * CONFIDENCE).sum() / CONFIDENCE.sum()).item()


def test_scores_are_compared_where_the_teacher_is_confident() -> None:
    difference = OURS.sigmoid() - THEIRS.sigmoid()
    assert of_logits("none", "l1") == pytest.approx(weighted(difference.abs().mean(-1)), rel=1e-5)
    assert of_logits("none", "l2") == pytest.approx(weighted(difference.square().mean(-1)), rel=1e-5)


def test_a_softmax_is_of_the_logits() -> None:
    kl = F.kl_div(OURS.log_softmax(-1), THEIRS.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    assert of_logits("softmax_c", "kl") == pytest.approx(weighted(kl), rel=1e-5)
    ours, theirs = OURS.softmax(-1), THEIRS.softmax(-1)
    assert of_logits("softmax_c", "l1") == pytest.approx(weighted((ours - theirs).abs().mean(-1)), rel=1e-5)


def test_reshaped_scores_are_one_vector_of_an_image_or_of_a_class() -> None:
    ours, theirs = OURS.sigmoid(), THEIRS.sigmoid()
    images = 1 - F.cosine_similarity(ours.flatten(1), theirs.flatten(1), dim=1)
    classes = 1 - F.cosine_similarity(ours.flatten(0, 1), theirs.flatten(0, 1), dim=0)
    assert of_logits("reshape_n", "cosine") == pytest.approx(images.mean().item(), rel=1e-4)
    assert of_logits("reshape_c", "cosine") == pytest.approx(classes.mean().item(), rel=1e-4)


def test_scores_standardised_per_class() -> None:
    ours, theirs = (
        (side - side.mean((0, 1))) / side.std((0, 1), unbiased=False) for side in (OURS.sigmoid(), THEIRS.sigmoid())
    )
    assert of_logits("norm_batch", "l2") == pytest.approx(weighted((ours - theirs).square().mean(-1)), rel=1e-3)


@pytest.mark.parametrize("distance", CHOICES["logits"]["distance"])
@pytest.mark.parametrize("transform", CHOICES["logits"]["transform"])
def test_unknown_classes_have_no_say_and_equal_scores_no_distance(transform: str, distance: str) -> None:
    known = torch.tensor([True, False, True])
    spoilt = THEIRS.clone()
    spoilt[..., 1] = 50.0
    value = logit_distance(OURS, spoilt, CONFIDENCE, known, transform, distance)
    expected = logit_distance(OURS, THEIRS, CONFIDENCE, known, transform, distance)
    assert value.item() == expected.item() > 0
    assert logit_distance(THEIRS, THEIRS, CONFIDENCE, None, transform, distance).item() == pytest.approx(0, abs=1e-5)


def boxes(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)[None].float()


A, B = boxes([0, 0, 16, 16], [16, 0, 40, 16]), boxes([2, 0, 16, 20], [20, 4, 40, 16])


def test_untransformed_boxes_are_compared_as_they_are() -> None:
    weight = torch.tensor([[2.0, 1.0]])
    value = box_distance(A, B, POINTS, STRIDES, weight, "none", "eiou")
    expected = (box_loss(A, B, "eiou") * weight).sum() / 3
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_edges_are_transformed_around_their_point() -> None:
    """Edges 1 and 2 strides from a point become sigmoids or squares of that."""
    found = to_distances(POINTS, STRIDES, A)
    assert found.tolist() == [[[1, 1, 1, 1], [1, 1, 2, 1]]]
    weight = torch.ones(1, 2)

    def by_hand(change: torch.Tensor, other: torch.Tensor) -> float:
        pairs = [
            [torch.cat([-edges[..., :2], edges[..., 2:]], -1) for edges in (change[:, row], other[:, row])]
            for row in range(2)
        ]
        return torch.stack([box_loss(*pair, "diou") for pair in pairs]).mean().item()

    theirs = to_distances(POINTS, STRIDES, B)
    for transform, change in {
        "sigmoid": torch.sigmoid, "pow2": torch.square, "softmax_c": lambda edges: edges.softmax(-1),
    }.items():  # fmt: skip
        value = box_distance(A, B, POINTS, STRIDES, weight, transform, "diou")
        assert value.item() == pytest.approx(by_hand(change(found), change(theirs)), rel=1e-4), transform


@pytest.mark.parametrize("kind", CHOICES["localisation"]["distance"])
@pytest.mark.parametrize("transform", CHOICES["localisation"]["transform"])
def test_equal_boxes_have_no_distance_and_others_a_finite_gradient(transform: str, kind: str) -> None:
    weight, student = torch.ones(1, 2), A.clone().requires_grad_()
    assert box_distance(B, B, POINTS, STRIDES, weight, transform, kind).item() == pytest.approx(0, abs=1e-5)  # type: ignore[arg-type]
    value = box_distance(student, B, POINTS, STRIDES, weight, transform, kind)  # type: ignore[arg-type]
    value.backward()
    assert value >= 0 and student.grad is not None and student.grad.isfinite().all()
