import pytest
import torch

from edgekd.distill.neck.score_l2 import score_l2_loss
from edgekd.errors import InputError

from ..helpers import build, random_output, spec, taps, terms


def test_value_by_hand() -> None:
    """Two channels, two positions with scores 1 and 1/4."""
    student = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 1, 2)
    score = torch.tensor([1.0, 0.25]).reshape(1, 1, 2)
    expected = (1.0 * (1 + 9) / 2 + 0.25 * (4 + 16) / 2) / 1.25
    assert score_l2_loss(student, torch.zeros(1, 2, 1, 2), score).item() == pytest.approx(expected)


def test_zero_at_identity_and_where_nothing_scores() -> None:
    feature = torch.randn(2, 3, 4, 4)
    assert score_l2_loss(feature, feature, torch.rand(2, 4, 4)).item() == 0.0
    assert score_l2_loss(feature, feature + 1, torch.zeros(2, 4, 4)).item() == 0.0


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 3)])
def test_more_images_or_pixels_leave_the_value_unchanged(repeats: tuple[int, int, int]) -> None:
    student, teacher, score = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.rand(2, 4, 4)
    n, h, w = repeats
    tiled = score_l2_loss(student.repeat(n, 1, h, w), teacher.repeat(n, 1, h, w), score.repeat(n, h, w))
    assert tiled.item() == pytest.approx(score_l2_loss(student, teacher, score).item(), rel=1e-5)


@pytest.mark.parametrize("branches", [("one2many",), ("one2many", "one2one")])
def test_equals_ultralytics(branches: tuple[str, ...]) -> None:
    """Same adapters, features and head outputs as in `DistillationModel.loss`, value and gradients alike."""
    from ultralytics.nn.distill_model import DistillationModel as Peer

    student, teacher = spec("small", (4, 6), branches=branches), spec("large", (5, 6), branches=branches)
    method = build("score_l2", student, teacher)
    ours, theirs = random_output(student, size_px=64), random_output(teacher, size_px=64, seed=1)
    value = terms(method, ours, theirs)["feature"]
    value.backward()
    gradients = [ours.taps[path].grad for path in [tap.key for tap in method.wiring.student.taps]]

    head = {name: {"scores": branch.class_logits.detach().transpose(1, 2)} for name, branch in theirs.dense.items()}
    head = head if len(branches) == 2 else head["one2many"]
    both = [Peer.decouple_outputs(None, head, branch=name)["scores"] for name in ("one2many", "one2one")]
    parts = torch.split((both[0] + both[1]) / 2, [64, 16], dim=-1)
    scores = tuple(part.sigmoid().max(dim=1, keepdim=True).values for part in parts)
    expected = torch.zeros(1)
    leaves = []
    for level, path in enumerate([tap.key for tap in method.wiring.student.taps]):
        leaves.append(ours.taps[path].detach().requires_grad_())
        projected = method.levels.adapters[level](leaves[-1])  # type: ignore[union-attr, index]
        expected = expected + Peer.loss_sl2(None, projected, theirs.taps[path].detach(), level, scores)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    expected.backward()
    for ours_grad, leaf in zip(gradients, leaves, strict=True):
        torch.testing.assert_close(ours_grad, leaf.grad, rtol=1e-5, atol=1e-8)


def test_a_tap_without_scores_of_its_stride_is_refused() -> None:
    deep = spec("deep", (4,), (8,), taps=taps("neck", (4,), (8,)) + taps("backbone", (4,), (4,)))
    with pytest.raises(InputError) as caught:
        build("score_l2", deep, deep, taps="backbone")
    assert str(caught.value) == (
        "score_l2: tap backbone.4 has stride 4, but teacher deep has scores at strides 8; choose taps of these strides"
    )


def test_a_subset_of_levels_reads_its_own_scores() -> None:
    side = spec("a", (4, 4))
    one = build("score_l2", side, side, taps=["neck.16"], adapter="conv1x1")
    student, teacher = random_output(side), random_output(side, seed=1)
    score = teacher.dense["one2many"].class_logits.detach()[:, 16:].amax(-1).sigmoid().reshape(2, 2, 2)
    adapted = one.levels.adapters[0](student.taps["neck.16"])  # type: ignore[union-attr, index]
    expected = score_l2_loss(adapted, teacher.taps["neck.16"].detach(), score)
    assert terms(one, student, teacher)["feature"].item() == pytest.approx(expected.item(), rel=1e-6)
