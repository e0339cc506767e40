import pytest
import torch
from torchvision.ops import roi_align as torchvision_roi_align

from edgekd.detectors.outputs import Batch, DetectorOutput, QueryPredictions
from edgekd.distill.regions import Cut, Regions, ground_truth, overlaps, predictions, roi_align, strongest

from .helpers import random_output, spec

IMAGES = torch.zeros(2, 3, 64, 96)  # not square


def batch(boxes: list[list[float]], images: list[int], classes: list[int] | None = None) -> Batch:
    return Batch(
        IMAGES,
        torch.tensor(images, dtype=torch.int64),
        torch.tensor(classes or [0] * len(images), dtype=torch.int64),
        torch.tensor(boxes).reshape(-1, 4),
    )


def test_labels_are_padded_per_image_whatever_their_order() -> None:
    boxes = [[0.0, 0, 8, 8], [10, 10, 30, 40], [5, 5, 9, 9]]
    regions, classes = ground_truth(batch(boxes, [1, 0, 1], [2, 1, 0]))
    assert regions.valid.tolist() == [[True, False], [True, True]]
    assert regions.boxes_px[0, 0].tolist() == boxes[1] and regions.boxes_px[1].tolist() == [boxes[0], boxes[2]]
    assert classes.tolist() == [[1, 0], [2, 0]]
    assert regions.image_index.tolist() == [0, 1, 1] and regions.rows_px.tolist() == [boxes[1], boxes[0], boxes[2]]
    assert regions.spread(torch.tensor([5, 6, 7])).tolist() == [[5, 0], [6, 7]]


def test_boxes_are_cut_off_at_the_image_and_slivers_left_out() -> None:
    boxes = [[-8.0, 40, 8, 80], [95.5, 0, 120, 10], [100, 100, 120, 120], [-5, -5, 200, 200]]
    regions, _ = ground_truth(batch(boxes, [0, 0, 0, 1]))
    assert regions.rows_px.tolist() == [[0, 40, 8, 64], [0, 0, 96, 64]]


def test_no_labels() -> None:
    regions, classes = ground_truth(batch([], []))
    assert regions.boxes_px.shape == (2, 0, 4) and classes.shape == (2, 0) and not len(regions.rows_px)
    assert Cut((8, 16), (3, 5)).of([torch.ones(2, 3, 8, 12), torch.ones(2, 5, 4, 6)], regions).shape == (0, 5, 7, 7)


def test_align_of_a_ramp_by_hand() -> None:
    """A map that holds the x of its cells' centres in pixels: a bin is the x of its own centre."""
    x = (torch.arange(8) + 0.5) * 4
    feature = x.expand(1, 1, 6, 8)
    found = roi_align(feature, torch.tensor([[0.0, 6, 4, 22, 20]]), 4, 2)
    assert found[0, 0].tolist() == [[10, 18], [10, 18]]


def test_align_is_torchvisions_and_takes_half_precision() -> None:
    torch.manual_seed(0)
    feature, rows = torch.randn(2, 3, 8, 12), torch.tensor([[0.0, 3, 5, 60, 41], [1, -20, 0, 30, 70]])
    expected = torchvision_roi_align(feature, rows, 7, spatial_scale=1 / 8, sampling_ratio=2, aligned=True)
    assert torch.equal(roi_align(feature, rows, 8, 7), expected)
    half = feature.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = roi_align(half, rows, 8, 7)
    assert torch.equal(found, roi_align(half.float(), rows, 8, 7))


@pytest.mark.parametrize(
    ("width", "height", "stride"),
    [(20, 20, 8), (223, 223, 8), (224, 224, 16), (448, 112, 16), (447, 447, 16), (900, 900, 32)],
)
def test_level_by_the_size_of_the_box(width: float, height: float, stride: int) -> None:
    cut = Cut((8, 16, 32), (1, 1, 1))
    assert cut.strides[cut.levels(torch.tensor([[5.0, 5, 5 + width, 5 + height]])).item()] == stride  # type: ignore[index]


def test_each_region_comes_from_its_level_and_narrow_levels_are_filled_up() -> None:
    cut = Cut((8, 16), (2, 3), size=4, canonical_px=16)
    maps = [torch.randn(2, 2, 8, 12), torch.randn(2, 3, 4, 6)]
    boxes = torch.tensor([[[4.0, 4, 12, 12], [0, 0, 32, 32]], [[0, 0, 0, 0], [8, 8, 60, 60]]])
    regions = Regions(boxes, torch.tensor([[True, True], [False, True]]))
    found = cut.of(maps, regions)
    assert found.shape == (3, 3, 4, 4) and cut.elements(regions.rows_px).tolist() == [32, 48, 48]
    assert torch.equal(found[0, :2], roi_align(maps[0], torch.tensor([[0.0, 4, 4, 12, 12]]), 8, 4)[0])
    assert not found[0, 2].any()
    assert torch.equal(found[2], roi_align(maps[1], torch.tensor([[1.0, 8, 8, 60, 60]]), 16, 4)[0])


def test_strongest_by_hand() -> None:
    """Of the first image: one box hides another, one is small, one weak; the second has more than the limit."""
    boxes = torch.tensor([
        [[0.0, 0, 20, 20], [1, 0, 21, 20], [40, 40, 42, 60], [60, 0, 80, 20], [30, 30, 50, 50]],
        [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [80, 50, 120, 90], [60, 0, 60, 10]],
    ])  # fmt: skip
    scores = torch.tensor([[0.6, 0.9, 0.8, 0.1, 0.5], [0.5, float("nan"), 0.9, 0.7, 0.99]])
    regions, found = strongest(boxes, scores, IMAGES, limit=2, nms_iou=0.5, min_score=0.2, min_side_px=4)
    assert regions.boxes_px.tolist() == [[[1, 0, 21, 20], [30, 30, 50, 50]], [[40, 0, 50, 10], [80, 50, 96, 64]]]
    assert found.tolist() == [[pytest.approx(0.9), 0.5], [pytest.approx(0.9), pytest.approx(0.7)]]
    none, _ = strongest(boxes, scores, IMAGES, limit=2, nms_iou=0.5, min_score=1.0)
    assert none.boxes_px.shape == (2, 0, 4)


def test_overlaps_by_hand() -> None:
    first = Regions(torch.tensor([[[0.0, 0, 10, 10], [0, 0, 0, 0]]]), torch.tensor([[True, False]]))
    other = Regions(torch.tensor([[[5.0, 0, 15, 10], [0, 0, 10, 10], [50, 50, 60, 60]]]), torch.ones(1, 3).bool())
    assert overlaps(first, other).tolist() == [[[pytest.approx(1 / 3), 1.0, 0.0], [0.0, 0.0, 0.0]]]


def test_predictions_of_either_kind_of_head_without_unknown_classes() -> None:
    dense = random_output(spec("a"))
    boxes, probabilities = predictions(dense)
    assert torch.equal(boxes, dense.dense["one2many"].boxes_px) and not boxes.requires_grad
    assert torch.equal(probabilities, dense.dense["one2many"].class_logits.detach().sigmoid())
    logits, corners = torch.randn(3, 2, 5, 4), torch.rand(3, 2, 5, 4)
    known = torch.tensor([True, False, True, True])
    boxes, probabilities = predictions(DetectorOutput({}, queries=QueryPredictions(logits, corners, (0, 1, 2), known)))
    assert torch.equal(boxes, corners[-1]) and torch.equal(probabilities[..., 0], logits[-1, ..., 0].sigmoid())
    assert not probabilities[..., 1].any()
