import pytest
import torch
from pydantic import ValidationError

from edgekd.distill.neck.mkd_pool import MKDPoolConfig, mkd_pool_loss
from edgekd.errors import InputError

from ..helpers import build, random_output, spec, terms


def test_value_by_hand() -> None:
    """Differences 1, 2, 3, 6: mean square 12.5; pooled by 2 it is 3, squared 9."""
    student = torch.tensor([1.0, 2.0, 3.0, 6.0]).reshape(1, 1, 2, 2)
    zero = torch.zeros(1, 1, 2, 2)
    assert mkd_pool_loss(student, zero, (1,)).item() == pytest.approx(12.5)
    assert mkd_pool_loss(student, zero, (2,)).item() == pytest.approx(9.0)
    assert mkd_pool_loss(student, zero, (1, 2)).item() == pytest.approx((12.5 + 9.0) / 2)


def test_windows_at_the_border_average_what_they_have() -> None:
    """Three cells a side, windows of two: 2 x 2, 2 x 1, 1 x 2 and 1 x 1; a window beyond the map is the map."""
    student = torch.arange(9.0).reshape(1, 1, 3, 3)
    zero = torch.zeros(1, 1, 3, 3)
    windows = [(0 + 1 + 3 + 4) / 4, (2 + 5) / 2, (6 + 7) / 2, 8.0]
    assert mkd_pool_loss(student, zero, (2,)).item() == pytest.approx(sum(mean**2 for mean in windows) / 4)
    assert mkd_pool_loss(student, zero, (8,)).item() == pytest.approx(4.0**2)


def test_zero_at_identity() -> None:
    feature = torch.randn(2, 3, 5, 4)
    assert mkd_pool_loss(feature, feature).item() == 0.0


def test_levels_are_summed_and_magnitude_beside_a_detection_loss() -> None:
    """Unrelated standardised maps: 2 at scale 1, 2 / 4 at 2, 2 / 16 at 4; the mean of these a level."""
    side = spec("a", (64, 64), (8, 16))
    method = build("mkd_pool", side, side, per_image_below=0)
    outputs = [random_output(side, size_px=128, seed=seed) for seed in range(2)]
    value = terms(method, *outputs)["feature"].item()
    assert value == pytest.approx(2 * (2 + 1 / 2 + 1 / 8) / 3, rel=0.05)
    assert method.config.weight == 1.0
    assert 0.1 < value / 8 < 0.5, "beside a detection loss of 8"


def test_scales_have_bounds() -> None:
    for bad in ((), (0,), (65,)):
        with pytest.raises(ValidationError):
            MKDPoolConfig(scales=bad)


def test_other_strides_are_refused() -> None:
    with pytest.raises(InputError, match="mkd_pool: no level of equal stride: student small neck has strides 8; te"):
        build("mkd_pool", spec("small", (4,), (8,)), spec("vit", (4,), (16,)))
