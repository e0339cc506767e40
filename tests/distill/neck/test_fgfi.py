import pytest
import torch

from edgekd.distill.neck.fgfi import fgfi_loss, imitation_masks

from ..helpers import boxes_of, build, random_output, spec, terms


def test_value_by_hand() -> None:
    """Two channels, two cells of which one is chosen; another level has one chosen cell, too."""
    student = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 1, 2)
    mask = torch.tensor([[[1.0, 0.0]]])
    value = fgfi_loss(student, torch.zeros(1, 2, 1, 2), mask, cells=torch.tensor(2.0))
    assert value.item() == pytest.approx((1 + 9) / (2 * 2))


def test_cells_are_chosen_where_the_best_anchors_are() -> None:
    """Boxes of 64 and 128 px: anchors of 8 strides fit them at strides 8 and 16, and nowhere as well."""
    batch = boxes_of([[96.0, 96, 160, 160]], [[64.0, 64, 192, 192]], size_px=(256, 256))
    fine, coarse = imitation_masks(batch, [(32, 32), (16, 16)], (8, 16), psi=0.6)
    assert fine[0, 15:17, 15:17].all() and fine[1].sum() == 0
    assert coarse[1, 7:9, 7:9].all() and coarse[0].sum() == 0
    wider = imitation_masks(batch, [(32, 32), (16, 16)], (8, 16), psi=0.3)
    assert all(wide.sum() > mask.sum() for wide, mask in zip(wider, (fine, coarse), strict=True))


def test_every_box_is_imitated_somewhere() -> None:
    """However small, at a border, or cut: the threshold is a share of its own best overlap."""
    batch = boxes_of([[0.0, 0, 2, 2]], [[250.0, 100, 256, 256]], [[100.0, 100, 101, 180]], size_px=(256, 256))
    masks = imitation_masks(batch, [(32, 32), (16, 16), (8, 8)], (8, 16, 32))
    assert all(count > 0 for count in torch.stack([mask.sum((1, 2)) for mask in masks]).sum(0))


def test_cells_far_from_objects_have_no_gradient() -> None:
    pair = spec("a", (4,), (8,)), spec("b", (4,), (8,))
    method = build("fgfi", *pair, adapter="conv1x1")
    batch = boxes_of([[0.0, 0, 16, 16]], [], size_px=(256, 256))
    student, teacher = random_output(pair[0], size_px=256), random_output(pair[1], size_px=256, seed=1)
    terms(method, student, teacher, batch)["feature"].backward()
    gradient = student.taps["neck.8"].grad
    assert gradient is not None
    assert gradient[0, :, 0, 0].abs().sum() > 0 and gradient[0, :, 20:, 20:].abs().sum() == 0
    assert gradient[1].abs().sum() == 0


def test_zero_at_identity_and_without_any_object() -> None:
    feature = torch.randn(2, 3, 4, 4)
    assert fgfi_loss(feature, feature, torch.ones(2, 4, 4), torch.tensor(32.0)).item() == 0.0
    pair = spec("a", (4, 6)), spec("b", (5, 6))
    outputs = [random_output(side, seed=seed) for seed, side in enumerate(pair)]
    value = terms(build("fgfi", *pair), *outputs, boxes_of([], []))["feature"]
    value.backward()
    assert value.item() == 0.0


def test_magnitude_is_half_the_channels() -> None:
    """Standard normal teacher, an adapter that starts at zero: half of C per chosen cell; weight 0.01 makes it 1."""
    pair = spec("a", (64,), (8,)), spec("b", (256,), (8,))
    student, teacher = random_output(pair[0], size_px=64), random_output(pair[1], size_px=64, seed=1)
    value = terms(build("fgfi", *pair), student, teacher, boxes_of([[0.0, 0, 64, 64]], [], size_px=(64, 64)))
    assert value["feature"].item() == pytest.approx(128, rel=0.1)
