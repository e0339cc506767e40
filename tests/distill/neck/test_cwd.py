import math

import pytest
import torch

from edgekd.distill.adapters import standardise
from edgekd.distill.neck.cwd import cwd_loss
from edgekd.errors import InputError

from ..helpers import build, random_output, spec, terms
from ..independent import of_mmrazor


def test_value_by_hand() -> None:
    """Two positions, teacher (3/4, 1/4), student (1/2, 1/2): KL = ln 2 - H(1/4)."""
    teacher = torch.tensor([math.log(3.0), 0.0]).reshape(1, 1, 1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert cwd_loss(torch.zeros(1, 1, 1, 2), teacher).item() == pytest.approx(expected, rel=1e-6)
    assert cwd_loss(torch.zeros(1, 1, 1, 2), 4 * teacher, tau=4.0).item() == pytest.approx(16 * expected, rel=1e-6)


def test_channels_and_images_are_averaged() -> None:
    """One of 2 x 3 channels differs."""
    teacher = torch.zeros(2, 3, 1, 2)
    teacher[1, 2, 0, 0] = math.log(3.0)
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 6
    assert cwd_loss(torch.zeros_like(teacher), teacher).item() == pytest.approx(expected, rel=1e-6)


def test_equals_the_definition() -> None:
    student, teacher, tau = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), 2.0
    q_student, q_teacher = ((f.double().flatten(2) / tau).softmax(-1) for f in (student, teacher))
    expected = tau**2 / 6 * (q_teacher * (q_teacher / q_student).log()).sum()
    assert cwd_loss(student, teacher, tau).item() == pytest.approx(expected.item(), rel=1e-5)


def test_zero_at_identity_and_under_shifts() -> None:
    feature = torch.randn(2, 3, 4, 4)
    assert cwd_loss(feature + torch.randn(2, 3, 1, 1), feature).item() == pytest.approx(0.0, abs=1e-6)
    assert cwd_loss(2 * feature, feature).item() > 0.01  # scale matters


def test_tiling_the_image_leaves_the_value_unchanged() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    tiled = cwd_loss(student.repeat(1, 1, 2, 3), teacher.repeat(1, 1, 2, 3))
    assert tiled.item() == pytest.approx(cwd_loss(student, teacher).item(), rel=1e-4)


def test_normalised_ignores_scale_and_shift_of_the_teachers_channels() -> None:
    pair = spec("a", (4,), (4,)), spec("b", (5,), (4,))
    method = build("cwd", *pair, normalise="channel", per_image_below=0)
    student, teacher = (random_output(side, seed=seed) for seed, side in enumerate(pair))
    plain = terms(method, student, teacher)["feature"].item()
    teacher.taps["neck.4"].data.mul_(100.0).add_(7.0)
    assert terms(method, student, teacher)["feature"].item() == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize(("per_image_below", "per_image"), [(0, False), (2, False), (3, True)])
def test_small_batches_are_normalised_per_image(per_image_below: int, per_image: bool) -> None:
    side = spec("a", (4,), (4,))
    method = build("cwd", side, side, normalise="channel", per_image_below=per_image_below)
    student, teacher = random_output(side, batch=2), random_output(side, batch=2, seed=1)
    adapted = method.levels.adapters[0](student.taps["neck.4"])  # type: ignore[union-attr, index]
    expected = cwd_loss(
        standardise(adapted, per_image=per_image), standardise(teacher.taps["neck.4"], per_image=per_image)
    )
    assert terms(method, student, teacher)["feature"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_other_strides_are_refused() -> None:
    with pytest.raises(InputError, match="cwd: no level of equal stride: student small neck has strides 8; teacher"):
        build("cwd", spec("small", (4,), (8,)), spec("vit", (4,), (16,)))


def test_equals_independent_code() -> None:
    theirs = of_mmrazor("losses/cwd.py", "ChannelWiseDivergence")(tau=2.0)
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    assert cwd_loss(student, teacher, 2.0).item() == pytest.approx(theirs(student, teacher).item(), rel=1e-6)
