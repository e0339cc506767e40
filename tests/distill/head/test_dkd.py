import math

import pytest
import torch

from edgekd.distill.head.dkd import others_divergence, target_divergence

from ..helpers import build, random_output, spec, terms
from ..independent import of_mmrazor


def test_values_by_hand() -> None:
    """The target has 3/4 at the teacher and 1/2 at the student; the others 2/3 : 1/3 and 1/2 : 1/2."""
    teacher = torch.tensor([[math.log(3.0), math.log(2.0), 0.0]])
    student, target = torch.zeros(1, 3), torch.tensor([0])
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert target_divergence(student, teacher, target).item() == pytest.approx(first, rel=1e-5)
    second = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert others_divergence(student, teacher, target).item() == pytest.approx(second, rel=1e-5)
    assert others_divergence(student * 2, teacher * 2, target, 2.0).item() == pytest.approx(4 * second, rel=1e-5)


def test_equals_independent_code() -> None:
    """NCKD as it is; TCKD where a softmax over two classes is a sigmoid of their difference."""
    kind = of_mmrazor("losses/decoupled_kd.py", "DKDLoss")
    student, teacher, target = torch.randn(6, 5), torch.randn(6, 5), torch.randint(5, (6,))
    expected = kind(tau=2.0, alpha=0.0, beta=1.0)(student, teacher, target)
    assert others_divergence(student, teacher, target, 2.0).mean().item() == pytest.approx(expected.item(), rel=1e-5)
    first = torch.zeros(6, dtype=torch.int64)
    pairs = [torch.cat([logits[:, :1], torch.zeros(6, 1)], 1) for logits in (student, teacher)]
    expected = kind(tau=2.0, alpha=1.0, beta=0.0)(*pairs, first)
    assert target_divergence(student, teacher, first, 2.0).mean().item() == pytest.approx(expected.item(), rel=1e-5)


def test_zero_at_identity() -> None:
    logits, target = torch.randn(4, 6), torch.randint(6, (4,))
    assert target_divergence(logits, logits, target).abs().max() < 1e-6
    assert others_divergence(logits, logits, target).abs().max() < 1e-6


def test_unknown_classes_and_the_target_are_not_among_the_others() -> None:
    known, target = torch.tensor([True, True, False, True]), torch.tensor([0])
    student, teacher = torch.randn(1, 4, requires_grad=True), torch.randn(1, 4)
    value = others_divergence(student, teacher, target, known=known)
    plain = others_divergence(student[:, [0, 1, 3]], teacher[:, [0, 1, 3]], target)
    assert value.item() == pytest.approx(plain.item(), rel=1e-5)
    value.sum().backward()
    assert (
        student.grad is not None and student.grad[0, [0, 2]].abs().sum() == 0 and (student.grad[0, [1, 3]] != 0).all()
    )


@pytest.mark.parametrize("classes", [1, 2])
def test_without_two_others_there_is_no_order(classes: int) -> None:
    student = torch.randn(2, classes, requires_grad=True)
    value = others_divergence(student, torch.randn(2, classes), torch.zeros(2, dtype=torch.int64))
    value.sum().backward()
    assert value.abs().max() < 1e-6 and student.grad is not None and student.grad.isfinite().all()


def test_terms_are_means_over_positives_with_their_factors() -> None:
    side = spec("a", branches=("one2many", "one2one"))
    student, teacher = random_output(side), random_output(side, seed=1)
    targets, others = [], []
    for name, branch in student.dense.items():
        rows = branch.assignment.foreground
        pair = branch.class_logits[rows], teacher.dense[name].class_logits[rows], torch.zeros(int(rows.sum())).long()
        targets.append(target_divergence(*pair).mean().item())
        others.append(others_divergence(*pair).mean().item())
    found = terms(build("dkd", side, side, alpha=2.0, beta=3.0), student, teacher)
    assert found["target"].item() == pytest.approx(2 * sum(targets) / 2, rel=1e-5)
    assert found["others"].item() == pytest.approx(3 * sum(others) / 2, rel=1e-5)
