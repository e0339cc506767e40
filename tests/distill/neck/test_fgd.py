import pytest
import torch

from edgekd.distill.box_masks import background_mask, scale_mask
from edgekd.distill.neck.fgd import GcBlock, fgd_losses

from ..helpers import boxes_of, build, random_output, spec, terms, wave

BATCH = boxes_of(
    [[4.0, 4, 20, 20], [10.0, 10, 50, 44]], [[40.0, 0, 64, 48]], size_px=(48, 64)
)  # on maps of 6 x 8 cells


def added(channels: int = 4, images: int = 2) -> torch.Tensor:
    return torch.zeros(images, channels)


def test_equals_the_official_code() -> None:
    """Values that github.com/yzd-v/FGD gives for these maps and boxes, each factor alone."""
    student, teacher = wave(2, 4, 6, 8), wave(2, 4, 6, 8, step=1.3, phase=1.0)
    foreground = scale_mask(BATCH, (6, 8))
    context = GcBlock(4).added(student) - GcBlock(4).added(teacher)  # which start as identity
    found = fgd_losses(student, teacher, foreground, background_mask(foreground), context, temperature=0.5)
    assert [value.item() for value in found] == pytest.approx([20.295067, 18.838070, 29.425081, 774.23877], rel=1e-5)


def test_value_by_hand() -> None:
    """A flat teacher has attention 1 everywhere: one cell of four in a box of one cell, three of background."""
    student, teacher = torch.ones(1, 2, 2, 2), torch.full((1, 2, 2, 2), 3.0)
    student[0, :, 0, 0] = 1.5
    foreground = torch.tensor([[[1.0, 0], [0, 0]]])
    found = fgd_losses(student, teacher, foreground, background_mask(foreground), added(2, 1))
    assert found[0].item() == pytest.approx(2 * 1.5**2)
    assert found[1].item() == pytest.approx(2 * 2.0**2)
    assert found[3].item() == pytest.approx(2 * (1.5**2 + 3 * 2.0**2))


def test_attention_by_hand() -> None:
    """Two cells, one channel: softmax of (0, ln 3) is (1/4, 3/4); the student's is (1/2, 1/2)."""
    teacher = torch.tensor([0.0, 0.5 * 1.0986123]).reshape(1, 1, 1, 2)
    student = torch.zeros(1, 1, 1, 2)
    masks = torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)
    found = fgd_losses(student, teacher, *masks, added(1, 1), temperature=0.5)
    assert found[2].item() == pytest.approx(2 * (0.25 + 0.25))


def test_context_is_the_squared_distance_of_what_the_blocks_give() -> None:
    student, teacher, mask = torch.randn(2, 8, 3, 4), torch.randn(2, 8, 3, 4), torch.zeros(2, 3, 4)
    blocks = GcBlock(8), GcBlock(8)
    for block in blocks:
        torch.nn.init.normal_(block.add[-1].weight)
    expected = (blocks[0](student) - blocks[1](teacher)).square().sum() / 2
    found = fgd_losses(student, teacher, mask, mask, blocks[0].added(student) - blocks[1].added(teacher))
    assert found[3].item() == pytest.approx(expected.item(), rel=1e-5)


def test_zero_at_identity() -> None:
    feature, mask = torch.randn(2, 4, 4, 4), torch.rand(2, 4, 4)
    assert [value.item() for value in fgd_losses(feature, feature, mask, mask, added())] == [0.0, 0.0, 0.0, 0.0]


def test_the_context_block_starts_as_identity_and_learns() -> None:
    feature, block = torch.randn(2, 8, 3, 3), GcBlock(8)
    assert torch.equal(block(feature), feature)
    torch.nn.init.normal_(block.add[-1].weight)
    moved = block(feature) - feature
    assert moved.abs().sum() > 0
    torch.testing.assert_close(moved, moved.mean((2, 3), keepdim=True).expand_as(moved))  # one vector per image


def test_small_and_large_objects_count_alike() -> None:
    """A difference of 1 in each box: the box's area cancels."""
    batch = boxes_of([[8.0, 8, 16, 16]], [[32.0, 32, 96, 112]], size_px=(128, 128))
    foreground = scale_mask(batch, (16, 16))
    assert foreground.sum((1, 2)).tolist() == pytest.approx([1, 1])


def test_finite_without_any_object_and_with_nothing_else() -> None:
    pair = spec("a", (4, 6)), spec("b", (5, 6))
    outputs = [random_output(side, seed=seed) for seed, side in enumerate(pair)]
    none = terms(build("fgd", *pair), *outputs, boxes_of([], []))
    assert none["foreground"].item() == 0.0 and none["background"].item() > 0
    only = terms(build("fgd", *pair), *outputs, boxes_of([[0.0, 0, 32, 32]], [[0.0, 0, 32, 32]]))
    assert only["background"].item() == 0.0 and only["foreground"].item() > 0


def test_magnitude_beside_a_detection_loss() -> None:
    """At 640 px with 256 channels, as published; standard normal maps are larger than those of a trained pair."""
    pair = spec("a", (256, 256), (16, 32)), spec("b", (256, 256), (16, 32))
    outputs = [random_output(side, size_px=640, batch=1, seed=seed) for seed, side in enumerate(pair)]
    found = terms(build("fgd", *pair), *outputs, boxes_of([[100.0, 100, 300, 300]], size_px=(640, 640)))
    values = {name: value.item() for name, value in found.items()}
    assert 0.5 < values["foreground"] < 4 and 0.5 < values["background"] < 2.5
    assert values["attention"] < 1 and 5 < values["context"] < 15  # 2 x 256 x (1600 + 400) x 1e-5
