import torch

from edgekd.detectors.outputs import Batch
from edgekd.distill.positives import Positives

BATCH = Batch(
    torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), torch.tensor([2, 0]), torch.tensor([[0.0, 0, 4, 4], [1, 1, 3, 3]])
)
FOREGROUND = torch.tensor([[True, False, True], [False, True, False]])
BOX_INDEX = torch.tensor([[0, -1, 0], [-1, 1, -1]])
TARGETS = torch.zeros(2, 3, 3)
TARGETS[0, 0, 2], TARGETS[0, 2, 2], TARGETS[1, 1, 0] = 0.5, 2.5, 1.0


def found(known: list[bool] | None = None) -> Positives:
    mask = None if known is None else torch.tensor(known)
    return Positives.of_assignment(FOREGROUND, BOX_INDEX, TARGETS, BATCH, mask)


def test_rows_by_hand() -> None:
    rows = found()
    assert (rows.image.tolist(), rows.point.tolist()) == ([0, 0, 1], [0, 2, 1])
    assert rows.box_index.tolist() == [0, 0, 1] and rows.class_ids.tolist() == [2, 2, 0]
    assert rows.boxes_px.tolist() == [[0, 0, 4, 4], [0, 0, 4, 4], [1, 1, 3, 3]]
    assert rows.weight.tolist() == [0.5, 2.5, 1.0]
    assert rows.of(torch.arange(6).reshape(2, 3)).tolist() == [0, 2, 4]
    assert rows.mean(torch.tensor([4.0, 2.0, 1.0])).item() == 8 / 4


def test_objects_of_unknown_classes_are_left_out() -> None:
    rows = found([True, True, False])
    assert rows.point.tolist() == [1] and rows.class_ids.tolist() == [0]


def test_weights_that_sum_to_less_than_one_are_not_blown_up() -> None:
    rows = Positives.of_assignment(FOREGROUND, BOX_INDEX, TARGETS / 8, BATCH, None)
    assert rows.mean(torch.ones(3)).item() == 0.5
