import pytest
import torch

from edgekd.distill.contract import distiller_type
from edgekd.distill.head.pfi import pfi_loss
from edgekd.errors import InputError

from ..helpers import build, random_output, spec, taps, terms


def test_value_by_hand() -> None:
    """Two positions of differences 4 and 9, one of them with a difference of 2 in its predictions."""
    student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[2.0, 3.0]]]])
    assert pfi_loss(student, teacher, torch.tensor([[[2.0, 0.0]]])).item() == pytest.approx(4 * 2 / 2)


@pytest.mark.parametrize("compare", ["logits", "scores"])
def test_equals_a_plain_computation(compare: str) -> None:
    side = spec("a", branches=("one2many", "one2one"))
    student, teacher = random_output(side), random_output(side, seed=1)
    differences = []
    for name, branch in student.dense.items():
        pair = branch.class_logits.detach(), teacher.dense[name].class_logits.detach()
        ours, theirs = (logits.sigmoid() if compare == "scores" else logits for logits in pair)
        differences.append((ours - theirs).square().mean(-1))
    difference = (differences[0] + differences[1]) / 2
    expected = []
    for tap, part in zip(side.taps, (difference[:, :16], difference[:, 16:]), strict=True):
        distance = (student.taps[tap.key] - teacher.taps[tap.key]).square().mean(1)
        expected.append((distance.flatten(1) * part).mean().item())
    value = terms(build("pfi", side, side, compare=compare), student, teacher)["feature"].item()
    assert value == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_zero_where_predictions_agree() -> None:
    side = spec("a")
    student = random_output(side)
    other = random_output(side, seed=1)
    other.dense = student.dense
    assert terms(build("pfi", side, side), student, other)["feature"].item() == 0.0


def test_a_tap_without_scores_is_refused() -> None:
    extra = taps("backbone", (8, 8, 8), (4, 8, 16))
    student, teacher = (spec(name, taps=(*spec().taps, *extra)) for name in ("small", "large"))
    with pytest.raises(
        InputError, match=r"pfi: tap backbone.4 has stride 4, but both heads have scores at strides 8, 16"
    ):
        build("pfi", student, teacher, taps="backbone")


def test_the_papers_weight_is_not_the_default() -> None:
    """Scores differ by little, logits by much: on no scale of a YOLO does 1.5 fit."""
    config = distiller_type("pfi").config_type()
    assert (config.weight, config.wanted_share) == ("auto", 0.2)
