import pytest
import torch
from torch import Tensor

from edgekd.distill.neck.pkd import pkd_loss

from ..helpers import build, random_output, spec, terms
from ..independent import of_mmrazor


def channelwise(feature: Tensor) -> Tensor:
    return feature.double().transpose(0, 1).flatten(1)


def test_value_by_hand() -> None:
    """(0, 1, 2, 3) against (0, 2, 1, 3): r = 0.8, M = 4, so 3/4 * 0.2."""
    student = torch.tensor([0.0, 1, 2, 3]).reshape(1, 1, 2, 2)
    teacher = torch.tensor([0.0, 2, 1, 3]).reshape(1, 1, 2, 2)
    assert pkd_loss(student, teacher).item() == pytest.approx(0.15, rel=1e-5)


def test_equals_the_papers_definition() -> None:
    student, teacher = torch.randn(3, 4, 5, 5) * 3 + 1, torch.randn(3, 4, 5, 5)
    normal = [
        (f - f.mean(1, keepdim=True)) / (f.std(1, keepdim=True) + 1e-6) for f in map(channelwise, (student, teacher))
    ]
    expected = 0.5 * (normal[0] - normal[1]).square().mean()
    assert pkd_loss(student, teacher).item() == pytest.approx(expected.item(), rel=1e-5)


def test_is_one_minus_pearson() -> None:
    student, teacher = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    pairs = zip(channelwise(student), channelwise(teacher), strict=True)
    r = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean()
    assert pkd_loss(student, teacher).item() == pytest.approx(127 / 128 * (1 - r.item()), rel=1e-5)


def test_zero_at_identity_and_under_scale_and_shift_per_channel() -> None:
    feature = torch.randn(2, 3, 8, 8)
    assert pkd_loss(feature, feature).item() == pytest.approx(0.0, abs=1e-6)
    moved = feature * torch.tensor([0.1, 3.0, 50.0]).reshape(1, 3, 1, 1) + torch.tensor([5.0, -1.0, 0.0]).reshape(
        1, 3, 1, 1
    )
    assert pkd_loss(moved, feature).item() == pytest.approx(0.0, abs=1e-5)
    assert pkd_loss(-feature, feature).item() == pytest.approx(2 * 127 / 128, rel=1e-4)


@pytest.mark.parametrize("repeats", [(2, 1, 1, 1), (1, 1, 2, 2)])
def test_more_images_or_pixels_change_only_the_sample_correction(repeats: tuple[int, ...]) -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    tiled = pkd_loss(student.repeat(repeats), teacher.repeat(repeats)).item()
    many = 32 * repeats[0] * repeats[2] * repeats[3]
    correction = ((many - 1) / many) / (31 / 32)
    assert tiled == pytest.approx(pkd_loss(student, teacher).item() * correction, rel=1e-5)


def test_unrelated_maps_give_one_per_level() -> None:
    pair = spec("a", (64, 64)), spec("b", (64, 64))
    outputs = [random_output(side, size_px=128, seed=seed) for seed, side in enumerate(pair)]
    assert terms(build("pkd", *pair), *outputs)["feature"].item() == pytest.approx(2.0, rel=0.05)


def test_a_dead_channel_gives_finite_gradients() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    student[:, 1] = 0.0
    student.requires_grad_()
    pkd_loss(student, teacher).backward()
    assert student.grad is not None and student.grad.isfinite().all()


def test_other_strides_are_resized_to_the_teacher() -> None:
    """A student map that is the teacher's, enlarged by repetition, is the teacher's again after resizing."""
    student, teacher = spec("fine", (4,), (8,)), spec("coarse", (4,), (16,))
    theirs = random_output(teacher, size_px=64)
    ours = random_output(student, size_px=64)
    ours.taps["neck.8"].data = theirs.taps["neck.16"].data.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert terms(build("pkd", student, teacher), ours, theirs)["feature"].item() == pytest.approx(0.0, abs=1e-5)


def test_equals_independent_code() -> None:
    theirs = of_mmrazor("losses/pkd_loss.py", "PKDLoss")()
    student, teacher = torch.randn(3, 4, 5, 5) * 3 + 1, torch.randn(3, 4, 5, 5)
    assert pkd_loss(student, teacher).item() == pytest.approx(theirs(student, teacher).item(), rel=1e-5)
