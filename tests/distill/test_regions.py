import pytest
import torch
from torchvision.ops import roi_align as torchvision_roi_align

from edgekd.detectors.outputs import Batch
from edgekd.detectors.regions import Regions
from edgekd.distill.regions import Cut, ground_truth, roi_align

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


BOXES = {
    "inside": (3, 5, 60, 41),
    "over the border": (-20, 0, 30, 70),
    "outside": (-90, -90, -40, -40),
    "less than a cell": (9, 9, 10, 10),
    "larger than the map": (-200, -100, 300, 200),
    "at the last cell": (90, 58, 96, 64),
}


@pytest.mark.parametrize("size", [2, 7, 14])
@pytest.mark.parametrize("shape", [(8, 12), (1, 1), (1, 12)])
def test_align_and_its_gradient_are_torchvisions(shape: tuple[int, int], size: int) -> None:
    torch.manual_seed(0)
    feature = torch.randn(2, 3, *shape)
    rows = torch.tensor([[image, *box] for image in (1, 0) for box in BOXES.values()], dtype=torch.float32)
    ours, theirs = (feature.clone().requires_grad_() for _ in range(2))
    found = roi_align(ours, rows, 8, size)
    expected = torchvision_roi_align(theirs, rows, size, spatial_scale=1 / 8, sampling_ratio=2, aligned=True)
    assert torch.allclose(found, expected, atol=1e-5) and found.is_contiguous()
    for cut in (found, expected):
        (cut * torch.linspace(-1, 1, cut.numel()).view_as(cut)).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)  # type: ignore[arg-type]


def test_align_takes_half_precision_and_no_rows() -> None:
    torch.manual_seed(0)
    half, rows = torch.randn(2, 3, 8, 12).bfloat16(), torch.tensor([[0.0, 3, 5, 60, 41], [1, -20, 0, 30, 70]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = roi_align(half, rows, 8, 7)
    assert torch.equal(found, roi_align(half.float(), rows, 8, 7))
    assert roi_align(half, rows[:0], 8, 7).shape == (0, 3, 7, 7)


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
