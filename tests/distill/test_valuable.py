import torch
from torchvision.ops import box_iou, distance_box_iou

from edgekd.detectors.outputs import Batch
from edgekd.distill.valuable import valuable_region

from .helpers import dense, empty_batch

GRID = dense(torch.zeros(2, 80, 3), size_px=64, strides=[8, 16])
BOXES = torch.tensor([[8.0, 8, 40, 40], [20.0, 30, 60, 62], [0, 0, 20, 12]])


def region(batch: Batch) -> torch.Tensor:
    return valuable_region(GRID.points_px, GRID.point_strides, GRID.level_sizes, batch)


def test_equals_a_plain_loop_over_objects() -> None:
    """Nine nearest points of a level, mean plus deviation of their IoU, DIoU between a quarter of that and that."""
    batch = Batch(torch.zeros(2, 3, 64, 64), torch.tensor([0, 0, 1]), torch.zeros(3).long(), BOXES)
    reach = GRID.point_strides[:, None] * 4
    anchors = torch.cat([GRID.points_px - reach, GRID.points_px + reach], 1)
    expected = torch.zeros(2, 80)
    for image, box in zip(batch.image_index.tolist(), BOXES, strict=True):
        overlap, closeness = box_iou(box[None], anchors)[0], distance_box_iou(box[None], anchors)[0]
        distance = (GRID.points_px - (box[:2] + box[2:]) / 2).norm(dim=1)
        first, second = distance[:64].argsort()[:9], 64 + distance[64:].argsort()[:9]
        candidates = overlap[torch.cat([first, second])]
        threshold = candidates.mean() + candidates.std()
        for point in range(80):
            if 0.25 * threshold <= closeness[point] < threshold:
                expected[image, point] = max(expected[image, point].item(), overlap[point].item())
    found = region(batch)
    assert 5 < (found > 0).sum() < 120
    torch.testing.assert_close(found, expected)


def test_no_object_no_region() -> None:
    assert region(empty_batch(2, 64)).abs().sum() == 0 and region(empty_batch(2, 64)).shape == (2, 80)
