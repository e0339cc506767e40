import pytest
import torch

from edgekd.distill.neck.defeat import defeat_loss

from ..helpers import batch_of, boxes_of, build, random_output, spec, terms


def test_value_by_hand() -> None:
    """Two channels, three cells, one of them inside."""
    student = torch.tensor([[1.0, 2.0, 0.0], [3.0, 4.0, 2.0]]).reshape(1, 2, 1, 3)
    mask = torch.tensor([[[1.0, 0.0, 0.0]]])
    inside, outside = defeat_loss(student, torch.zeros(1, 2, 1, 3), mask, 1 - mask)
    assert inside.item() == pytest.approx((1 + 9) / 2 / 2)
    assert outside.item() == pytest.approx((4 + 16 + 0 + 4) / 4 / 2)


def test_zero_at_identity_and_for_a_side_without_cells() -> None:
    feature = torch.randn(2, 3, 4, 4)
    mask = torch.zeros(2, 4, 4)
    assert [value.item() for value in defeat_loss(feature, feature, 1 - mask, mask)] == [0.0, 0.0]
    inside, outside = defeat_loss(feature, feature + 1, mask, 1 - mask)
    assert inside.item() == 0.0 and outside.item() == pytest.approx(0.5)


def test_levels_are_averaged_and_sides_weighted() -> None:
    """A difference of 1 everywhere: half of each factor, on the one level of two that has an object."""
    side = spec("a", (4, 4))
    method = build("defeat", side, side, adapter="conv1x1")
    for adapter in method.levels.adapters:  # type: ignore[union-attr]
        torch.nn.init.zeros_(adapter.weight)
        torch.nn.init.zeros_(adapter.bias)
    outputs = [random_output(side, seed=seed) for seed in range(2)]
    for feature in outputs[1].taps.values():
        feature.data.fill_(1.0)
    found = terms(method, *outputs)
    assert found["object"].item() == pytest.approx(3 / 2 / 2)
    assert found["background"].item() == pytest.approx(12 / 2)


@pytest.mark.parametrize(("boxes", "levels"), [("by_size", {"neck.8"}), ("all", {"neck.8", "neck.16"})])
def test_boxes_are_drawn_on_their_level_or_on_all(boxes: str, levels: set[str]) -> None:
    side = spec("a", (4, 4))
    method = build("defeat", side, side, boxes=boxes)
    student, teacher = random_output(side), random_output(side, seed=1)
    terms(method, student, teacher)["object"].backward()
    assert {key for key, tap in student.taps.items() if tap.grad is not None and tap.grad.any()} == levels


def test_finite_without_any_object() -> None:
    pair = spec("a", (4, 6)), spec("b", (5, 6))
    outputs = [random_output(side, seed=seed) for seed, side in enumerate(pair)]
    found = terms(build("defeat", *pair), *outputs, boxes_of([], []))
    assert found["object"].item() == 0.0 and 0 < found["background"].item() < 100


def test_more_pixels_leave_the_value_unchanged() -> None:
    """Twice the image, the same picture in each quarter, four boxes."""
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    mask = (torch.rand(2, 4, 4) > 0.5).float()
    once = defeat_loss(student, teacher, mask, 1 - mask)
    both = (value.repeat(1, 1, 2, 2) for value in (student, teacher))
    tiled = defeat_loss(*both, mask.repeat(1, 2, 2), 1 - mask.repeat(1, 2, 2))
    assert [value.item() for value in tiled] == pytest.approx([value.item() for value in once], rel=1e-5)


def test_magnitude_beside_a_detection_loss() -> None:
    """Standard normal teacher: 12 / 2 of background and up to 3 / 2 of objects, as much as a YOLO's own 5 to 10."""
    pair = spec("a", (32, 32)), spec("b", (32, 32))
    outputs = [random_output(side, size_px=128, seed=seed) for seed, side in enumerate(pair)]
    found = terms(build("defeat", *pair), *outputs, batch_of(size_px=128))
    assert found["background"].item() == pytest.approx(6.0, rel=0.05)
    assert found["object"].item() == pytest.approx(0.75, rel=0.5)
