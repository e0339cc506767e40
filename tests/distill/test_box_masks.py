"""Boxes on levels: by hand, at borders, on odd sizes, and without any box."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from edgekd.distill.box_masks import (
    anchor_overlaps,
    any_box,
    background_mask,
    box_mask,
    level_of_boxes,
    pooled,
    scale_mask,
)

from .helpers import boxes_of


def test_a_box_covers_the_cells_from_its_first_up_to_its_last() -> None:
    """Cells of 8 px: x from 0.5 to 2.5, y from 1 to 3."""
    batch = boxes_of([[4.0, 8, 20, 24]], [])
    drawn = box_mask(batch, (4, 4))
    assert drawn[0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert drawn[1].sum() == 0
    with_last = box_mask(batch, (4, 4), last=True)
    assert with_last[0].tolist() == [[0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]


def test_chosen_boxes_alone_are_drawn() -> None:
    batch = boxes_of([[0.0, 0, 8, 8], [16, 16, 32, 32]])
    drawn = box_mask(batch, (4, 4), torch.tensor([False, True]))
    assert drawn[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("box", "cell"),
    [([9.0, 9, 10, 10], (1, 1)), ([31.5, 0, 32, 1], (0, 3)), ([32.0, 32, 32, 32], (3, 3)), ([-9.0, 0, -8, 1], (0, 0))],
)
def test_the_smallest_box_keeps_one_cell_inside_the_map(box: list[float], cell: tuple[int, int]) -> None:
    drawn = box_mask(boxes_of([box]), (4, 4))
    assert drawn.sum() == 1 and drawn[0][cell] == 1


def test_a_box_that_a_mosaic_has_cut_is_drawn_to_the_border() -> None:
    assert box_mask(boxes_of([[20.0, -6, 40, 12]]), (4, 4))[0].tolist() == [[0, 0, 1, 1], *[[0] * 4] * 3]


def test_cells_are_the_images_size_over_the_maps() -> None:
    """An image of 30 x 50 px whose map has 4 x 7 cells: 7.5 px down and 50 / 7 px across a cell."""
    drawn = box_mask(boxes_of([[0.0, 7.5, 50, 15]], size_px=(30, 50)), (4, 7))
    assert drawn[0].tolist() == [[0] * 7, [1] * 7, [0] * 7, [0] * 7]


def test_scale_mask_by_hand() -> None:
    """Both ends are included: 3 x 3 cells of 1/9, and one of 2 x 2 that wins where they overlap."""
    batch = boxes_of([[0.0, 0, 16, 16], [8.0, 8, 16, 16]], [])
    drawn = scale_mask(batch, (4, 4))
    ninth = 1 / 9
    expected = [[ninth, ninth, ninth, 0], [ninth, 0.25, 0.25, 0], [ninth, 0.25, 0.25, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(drawn[0], torch.tensor(expected))
    assert drawn[1].sum() == 0


def test_background_shares_what_no_box_covers() -> None:
    foreground = scale_mask(boxes_of([[0.0, 0, 8, 8]], [], [[0.0, 0, 32, 32]]), (4, 4))
    background = background_mask(foreground)
    assert background[0, 0, 0] == 0 and background[0, 3, 3].item() == pytest.approx(1 / 12)
    assert background.sum((1, 2)).tolist() == pytest.approx([1, 1, 0])  # without any box: 1 / 16 everywhere
    assert background[1].unique().tolist() == [1 / 16]


def test_overlaps_with_anchors_by_hand() -> None:
    """At stride 8 the square anchor of scale 1 is the cell, the flat one 11.3 x 5.7 px."""
    batch = boxes_of([[8.0, 8, 16, 16]], [[4.0, 0, 12, 8]])
    square = anchor_overlaps(batch, (4, 4), 8, scale=1.0, ratios=(1.0,))
    assert square.shape == (2, 4, 4, 1)
    assert square[0, 1, 1].item() == 1 and square[0].sum() == 1
    assert square[1, 0, :, 0].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 0])
    flat = anchor_overlaps(batch, (4, 4), 8, scale=1.0, ratios=(0.5,))
    common = 8 * 8 / math.sqrt(2)
    assert flat[0, 1, 1].item() == pytest.approx(common / (128 - common))
    assert any_box(square[..., 0] > 0.5, batch).sum((1, 2)).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("side", "level"), [(1.0, 0), (110.0, 0), (222.0, 0), (224.0, 1), (446.0, 1), (448.0, 2), (3000.0, 2)]
)
def test_boxes_belong_to_the_level_of_their_size(side: float, level: int) -> None:
    """FPN's rule: 112 to 224 px at stride 8, twice that at 16; beyond, the level at the end."""
    assert level_of_boxes(boxes_of([[0.0, 0, side, side]]), (8, 16, 32)).tolist() == [level]


def test_weights_are_painted_and_the_most_wins() -> None:
    batch = boxes_of([[0.0, 0, 16, 16], [8.0, 8, 16, 16]])
    drawn = box_mask(batch, (4, 4), torch.tensor([0.5, 0.75]))
    assert drawn[0, :2, :2].tolist() == [[0.5, 0.5], [0.5, 0.75]] and drawn.sum() == 2.25


def test_pooling_is_the_mean_over_a_boxes_cells() -> None:
    """In the order of the boxes, each from its own image, whatever the order of images."""
    feature = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4).requires_grad_()
    batch = boxes_of([[0.0, 0, 7, 15], [9.0, 9, 10, 10]], [[0.0, 0, 31, 31]])
    swapped = replace(batch, image_index=torch.tensor([1, 0, 0]))
    found = pooled(feature, swapped)
    expected = [feature[1, :, :2, :1].mean((1, 2)), feature[0, :, 1, 1], feature[0].mean((1, 2))]
    torch.testing.assert_close(found, torch.stack(expected))
    found.sum().backward()
    assert feature.grad is not None and feature.grad.sum().item() == pytest.approx(3 * 3)
    assert pooled(feature, boxes_of([], [])).shape == (0, 3)


def test_a_batch_without_boxes_has_empty_masks() -> None:
    batch = boxes_of([], [])
    for drawn in (box_mask(batch, (3, 5)), scale_mask(batch, (3, 5))):
        assert drawn.shape == (2, 3, 5) and drawn.sum() == 0
    assert anchor_overlaps(batch, (3, 5), 8).shape == (0, 3, 5, 3)
    assert level_of_boxes(batch, (8, 16)).shape == (0,)


def test_overlaps_equal_those_of_torchvision() -> None:
    from torchvision.ops import box_iou

    corners = torch.rand(7, 2, generator=torch.Generator().manual_seed(0)) * 60
    boxes = torch.cat([corners, corners + 1 + 40 * torch.rand(7, 2, generator=torch.Generator().manual_seed(1))], 1)
    batch = boxes_of(boxes.tolist(), size_px=(64, 96))
    found = anchor_overlaps(batch, (8, 12), 8, scale=4.0, ratios=(0.5, 2.0))
    anchors = [
        [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        for y in range(4, 64, 8)
        for x in range(4, 96, 8)
        for w, h in ((32 * 2**0.5, 32 / 2**0.5), (32 / 2**0.5, 32 * 2**0.5))
    ]
    torch.testing.assert_close(found.flatten(1), box_iou(boxes, torch.tensor(anchors)))
