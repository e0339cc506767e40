import pytest
import torch

from edgekd.distill.neck.fitnet import fitnet_loss
from edgekd.errors import InputError

from ..helpers import build, random_output, spec, terms


def test_value_by_hand() -> None:
    student = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 1, 2)
    teacher = torch.tensor([1.0, 0.0, 3.0, 1.0]).reshape(1, 2, 1, 2)
    assert fitnet_loss(student, teacher).item() == pytest.approx((0 + 4 + 0 + 9) / 4)


def test_zero_at_identity() -> None:
    feature = torch.randn(2, 3, 4, 4)
    assert fitnet_loss(feature, feature).item() == 0.0


def test_tiling_the_image_leaves_the_value_unchanged() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    tiled = fitnet_loss(student.repeat(1, 1, 2, 3), teacher.repeat(1, 1, 2, 3))
    assert tiled.item() == pytest.approx(fitnet_loss(student, teacher).item(), rel=1e-5)


def test_levels_are_summed() -> None:
    """Standard normal maps without adapter: each level is about 2."""
    pair = spec("a", (64, 64)), spec("b", (64, 64))
    method = build("fitnet", *pair, adapter="none")
    outputs = [random_output(side, size_px=128, seed=seed) for seed, side in enumerate(pair)]
    assert terms(method, *outputs)["feature"].item() == pytest.approx(4.0, rel=0.05)


def test_other_strides_are_resized() -> None:
    student, teacher = spec("small", (4, 6), (8, 16)), spec("vit", (5,), (16,))
    method = build("fitnet", student, teacher)
    assert terms(method, random_output(student), random_output(teacher, seed=1))["feature"].item() > 0


def test_no_adapter_needs_equal_channels() -> None:
    with pytest.raises(InputError) as caught:
        build("fitnet", spec("a", (4,), (8,)), spec("b", (5,), (8,)), adapter="none")
    assert str(caught.value) == (
        "fitnet: student a, teacher b: adapter 'none' needs equal channels, given 4 and 5; choose 'conv1x1'"
    )


def test_hints_on_stages_of_the_backbone() -> None:
    """The paper's own use: `taps: backbone`. Each stage by its own 1x1 convolution, mean squares summed."""
    student, teacher = spec("small", (4, 6), backbone=(3, 5)), spec("large", (5, 6), backbone=(8, 5))
    method = build("fitnet", student, teacher, taps="backbone")
    ours, theirs = random_output(student), random_output(teacher, seed=1)
    adapters = dict(zip(("backbone.8", "backbone.16"), method.levels.adapters, strict=True))  # type: ignore[union-attr, arg-type]
    expected = sum(
        (adapter(ours.taps[key]) - theirs.taps[key]).square().mean().item() for key, adapter in adapters.items()
    )
    assert terms(method, ours, theirs)["feature"].item() == pytest.approx(expected, rel=1e-5)
