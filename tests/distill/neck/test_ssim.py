import numpy as np
import pytest
import torch

from edgekd.distill.neck.ssim import SSIMConfig, normalised, ssim_loss, ssim_map

from ..helpers import boxes_of, build, random_output, spec, terms


def test_equals_scikit_image() -> None:
    """Away from the borders, which are mirrored in another way there."""
    from skimage.metrics import structural_similarity

    generator = np.random.default_rng(0)
    ours, theirs = generator.random((2, 24, 30))
    _, expected = structural_similarity(
        ours, theirs, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, full=True
    )
    found = ssim_map(torch.from_numpy(ours)[None, None], torch.from_numpy(theirs)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found[5:-5, 5:-5], expected[5:-5, 5:-5], rtol=1e-8)


def test_value_by_hand() -> None:
    """Constant maps of 0.2 and 0.6 have neither variance nor covariance: luminance alone."""
    ours, theirs = torch.full((1, 1, 12, 12), 0.2), torch.full((1, 1, 12, 12), 0.6)
    expected = (2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert ssim_map(ours, theirs).mean().item() == pytest.approx(expected, rel=1e-4)


def test_zero_at_identity_and_under_scale_and_shift_of_an_image() -> None:
    feature = torch.randn(2, 3, 12, 12)
    assert ssim_loss(feature, feature).item() == pytest.approx(0.0, abs=1e-6)
    moved = feature * torch.tensor([3.0, 0.2]).reshape(2, 1, 1, 1) + 7
    assert ssim_loss(moved, feature).item() == pytest.approx(0.0, abs=1e-4)


def test_each_image_is_normalised_by_itself() -> None:
    feature = torch.stack([torch.randn(3, 4, 4), torch.randn(3, 4, 4) * 100])
    found = normalised(feature)
    assert found.amin((1, 2, 3)).tolist() == [0, 0] and found.amax((1, 2, 3)).tolist() == pytest.approx(
        [1, 1], abs=1e-4
    )


@pytest.mark.parametrize("size", [(3, 3), (2, 5), (1, 1), (11, 12), (4, 40)])
def test_the_window_fits_small_maps(size: tuple[int, int]) -> None:
    student, teacher = torch.randn(2, 3, *size, requires_grad=True), torch.randn(2, 3, *size)
    value = ssim_loss(student, teacher)
    value.backward()
    assert 0 <= value.item() <= 1
    assert student.grad is not None and student.grad.isfinite().all()


def test_a_constant_map_gives_finite_gradients() -> None:
    student = torch.zeros(2, 3, 12, 12, requires_grad=True)
    ssim_loss(student, torch.randn(2, 3, 12, 12)).backward()
    assert student.grad is not None and student.grad.isfinite().all()


def test_an_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="must be odd, choose 9 or 11"):
        SSIMConfig(window=10)


def test_needs_no_objects() -> None:
    pair = spec("a", (4, 6)), spec("b", (5, 6))
    outputs = [random_output(side, seed=seed) for seed, side in enumerate(pair)]
    assert terms(build("ssim", *pair), *outputs, boxes_of([], [])) == terms(build("ssim", *pair), *outputs)


def test_magnitude_beside_a_detection_loss() -> None:
    """Unrelated maps have a similarity of about 0.2 to 0.5, so a level weighs at most half of the factor 4."""
    pair = spec("a", (32, 32)), spec("b", (32, 32))
    outputs = [random_output(side, size_px=128, seed=seed) for seed, side in enumerate(pair)]
    assert 0.2 < terms(build("ssim", *pair), *outputs)["feature"].item() < 1.0
