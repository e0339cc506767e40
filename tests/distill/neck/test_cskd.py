import math

import pytest
import torch

from edgekd.distill.box_masks import box_mask
from edgekd.distill.neck.cskd import cskd_loss, rois

from ..helpers import boxes_of, build, random_output, spec, terms, wave

BATCH = boxes_of([[4.0, 4, 20, 20], [10.0, 10, 50, 44]], [[40.0, 0, 64, 48]], size_px=(48, 64))


def test_equals_the_official_code() -> None:
    """Values that github.com/swkdn16/CSKD gives for these maps and boxes, less its constant of empty positions."""
    student, teacher = wave(2, 4, 6, 8), wave(2, 4, 6, 8, step=1.3, phase=1.0)
    inside = box_mask(BATCH, (6, 8), last=True)
    found = [
        cskd_loss(student, teacher),
        cskd_loss(rois(student, BATCH), rois(teacher, BATCH)),
        cskd_loss(student, teacher, inside),
        cskd_loss(student, teacher, 1 - inside),
    ]
    covered = inside.sum().item()
    constants = [0, 0, 0.5 * (96 - covered) / (covered * 4), 0.5 * covered / ((96 - covered) * 4)]
    values = [value.item() + constant for value, constant in zip(found, constants, strict=True)]
    assert values == pytest.approx([5.2470689, 3.1593308, 4.5740876, 5.6561556], rel=1e-5)


def test_value_by_hand() -> None:
    """Two channels of two cells: (1, 0) against (0, 1), and equal ones; so a is 1 and 0, b that of 45 degrees twice."""
    student = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).reshape(1, 2, 1, 2)
    teacher = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).reshape(1, 2, 1, 2)
    angle = 1 - 1 / math.sqrt(2)  # between (1, 1) and (0, 1), and between (0, 1) and (1, 1)
    squared = (1 * angle + 1 * angle) / 4
    cosine = (1 + 0) / 2 + angle
    assert cskd_loss(student, teacher).item() == pytest.approx(squared + 0.5 * cosine, rel=1e-5)
    assert cskd_loss(student, teacher, squared=2.0, cosine=0.0).item() == pytest.approx(2 * squared, rel=1e-5)


def test_zero_at_identity_and_the_cosine_ignores_scale() -> None:
    feature = torch.randn(2, 3, 4, 4)
    assert cskd_loss(feature, feature).item() == pytest.approx(0.0, abs=1e-6)
    assert cskd_loss(3 * feature, feature).item() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("repeats", [(2, 1, 1, 1), (1, 1, 2, 3)])
def test_more_images_or_pixels_leave_the_value_unchanged(repeats: tuple[int, ...]) -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    mask = (torch.rand(2, 4, 4) > 0.5).float()
    tiled = [value.repeat(repeats) for value in (student, teacher)]
    n, _, h, w = repeats
    assert cskd_loss(*tiled).item() == pytest.approx(cskd_loss(student, teacher).item(), rel=1e-4)
    expected = cskd_loss(student, teacher, mask).item()
    assert cskd_loss(*tiled, mask.repeat(n, h, w)).item() == pytest.approx(expected, rel=1e-4)


def test_boxes_are_cut_out_of_their_own_image() -> None:
    feature = torch.zeros(2, 1, 6, 8)
    feature[1] = 5.0
    assert rois(feature, BATCH).amax((1, 2, 3)).tolist() == pytest.approx([0.0, 0.0, 5.0])


@pytest.mark.parametrize(
    ("batch", "nothing"),
    [(boxes_of([], []), {"box", "object"}), (boxes_of([[0.0, 0, 32, 32]], [[0.0, 0, 32, 32]]), {"background"})],
)
def test_a_part_without_positions_is_zero(batch: object, nothing: set[str]) -> None:
    pair = spec("a", (4, 6)), spec("b", (5, 6))
    outputs = [random_output(side, seed=seed) for seed, side in enumerate(pair)]
    found = terms(build("cskd", *pair), *outputs, batch)  # type: ignore[arg-type]
    assert {name for name, value in found.items() if value.item() == 0.0} == nothing
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert all(tap.grad is not None and tap.grad.isfinite().all() for tap in outputs[0].taps.values())


def test_magnitude_beside_a_detection_loss() -> None:
    """Unrelated maps: cosines of 0, so 2 + 2 x 0.5 for each of four parts of a level; a trained pair is far below."""
    pair = spec("a", (32, 32)), spec("b", (32, 32))
    outputs = [random_output(side, size_px=128, seed=seed) for seed, side in enumerate(pair)]
    found = terms(build("cskd", *pair), *outputs)
    assert found["feature"].item() == pytest.approx(5, rel=0.2)
