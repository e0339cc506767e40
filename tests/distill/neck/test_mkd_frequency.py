import pytest
import torch

from edgekd.distill.masks import random_mask
from edgekd.distill.neck.mkd_frequency import filtered, frequency_mask, mkd_frequency_loss

from ..helpers import build, moment, random_output, spec, terms


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_value_by_hand() -> None:
    """Of (5, 1) the mean 3 and the difference +-2 are its frequencies; without the second, (3, 3) against (0, 1)."""
    student = torch.tensor([5.0, 1.0]).reshape(1, 1, 1, 2)
    teacher = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    mask = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    assert filtered(student, mask).flatten().tolist() == pytest.approx([3.0, 3.0])
    assert mkd_frequency_loss(student, teacher, mask).item() == pytest.approx((9 + 4) / 2)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (6, 5), (1, 1), (1, 8), (8, 1)])
def test_filtering_is_that_of_the_full_plane_and_real(size: tuple[int, int]) -> None:
    """The half that is drawn, mirrored to all frequencies, gives a real map without taking a real part."""
    height, width = size
    feature = torch.randn(2, 3, height, width, dtype=torch.float64)
    half = frequency_mask(feature.shape, 0.5, draws())
    full = torch.ones(2, 1, height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            inside = column < half.shape[-1]
            at = (row, column) if inside else ((height - row) % height, width - column)
            full[:, 0, row, column] = half[:, 0, at[0], at[1]]
    expected = torch.fft.ifft2(torch.fft.fft2(feature) * full)
    assert expected.imag.abs().max() < 1e-12
    assert torch.allclose(filtered(feature, half), expected.real, atol=1e-12)


def test_the_mean_of_a_channel_always_stays() -> None:
    feature = torch.randn(50, 2, 6, 6)
    left = filtered(feature, frequency_mask(feature.shape, 0.99, draws()))
    assert torch.allclose(left.mean((2, 3)), feature.mean((2, 3)), atol=1e-6)


def test_zeta_is_the_share_that_is_removed() -> None:
    mask = frequency_mask(torch.Size((4, 8, 64, 64)), 0.3, draws())
    assert mask.shape == (4, 1, 64, 33)
    assert mask.mean().item() == pytest.approx(0.7, abs=0.02)
    assert frequency_mask(torch.Size((1, 1, 8, 8)), 0.0, draws()).min() == 1


def test_nothing_removed_is_a_plain_difference_and_zero_at_identity() -> None:
    student, teacher = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    everything = frequency_mask(student.shape, 0.0, draws())
    expected = (student - teacher).square().mean().item()
    assert mkd_frequency_loss(student, teacher, everything).item() == pytest.approx(expected, rel=1e-5)
    assert mkd_frequency_loss(student, student, everything).item() == pytest.approx(0.0, abs=1e-12)


def test_a_batch_twice_as_large_under_the_same_masks_has_the_same_value() -> None:
    student, teacher = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    mask = frequency_mask(student.shape, 0.5, draws())
    twice = mkd_frequency_loss(*(each.repeat(2, 1, 1, 1) for each in (student, teacher, mask)))
    assert twice.item() == pytest.approx(mkd_frequency_loss(student, teacher, mask).item(), rel=1e-5)


def test_magnitude_beside_a_detection_loss() -> None:
    """Unrelated standardised maps give 2 - zeta a level; the teacher's own map gives zeta, the floor."""
    side = spec("a", (64, 64), (8, 16))
    outputs = [random_output(side, size_px=128, seed=seed) for seed in range(2)]
    value = terms(build("mkd_frequency", side, side, per_image_below=0), *outputs)["feature"].item()
    assert value == pytest.approx(2 * 1.5, rel=0.06)
    assert 0.1 < value / 8 < 0.5, "beside a detection loss of 8, at weight 1"
    own = terms(build("mkd_frequency", side, side, normalise="none"), outputs[1], outputs[1])["feature"].item()
    assert own == pytest.approx(2 * 0.5, rel=0.1)


def test_masks_come_from_the_methods_own_generator() -> None:
    side = spec("a", (4,), (4,))
    method = build("mkd_frequency", side, side, normalise="none")
    student, teacher = random_output(side), random_output(side, seed=1)
    before = torch.get_rng_state()
    value = terms(method, student, teacher)["feature"]
    assert torch.equal(torch.get_rng_state(), before)
    mask = frequency_mask(teacher.taps["neck.4"].shape, 0.5, moment().generator)
    assert value.item() == mkd_frequency_loss(student.taps["neck.4"], teacher.taps["neck.4"], mask).item()
    assert random_mask((2, 1, 8, 5), 0.5, moment().generator)[:, :, 1, 1].tolist() == mask[:, :, 1, 1].tolist()
