import math

import pytest
import torch

from edgekd.distill.boxes import centred
from edgekd.distill.matching import Matches
from edgekd.distill.query.absorbing import DividedBy, detection_loss, matched_with_objects, matched_with_own
from edgekd.distill.query.probes import Probes

from ..helpers import batch_of, boxes_of, empty_batch


@pytest.mark.parametrize(("divided_by", "count"), [("queries", 2), ("objects", 1)])
def test_loss_by_hand(divided_by: DividedBy, count: int) -> None:
    """One image, two queries, one class; the first is matched, and 3.2 px too far right on 32 px."""
    batch = batch_of(1)
    boxes = centred(batch.boxes_px, (32, 32)).expand(2, 4)[None].clone()
    boxes[0, 0, 0] += 0.1
    matches = Matches(*(torch.tensor([0]) for _ in range(3)))
    found = detection_loss(torch.zeros(1, 2, 1), boxes, matches, batch, divided_by)
    positive, negative = 0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)
    assert found["class"].item() == pytest.approx(2 * (positive + negative) / count)
    giou = (16 - 3.2) / (16 + 3.2)  # side by side in y: hull and union are one
    assert found["box"].item() == pytest.approx(5 * 0.1 + 2 * (1 - giou), rel=1e-5)


def test_means_are_per_image_first() -> None:
    """Twice the images, the same value; an image with more objects counts as one with fewer."""
    batch = boxes_of([[4.0, 4, 20, 20], [1, 22, 9, 30], [21, 2, 31, 12]], [[4.0, 4, 20, 20]])
    torch.manual_seed(0)
    logits, boxes = torch.randn(2, 5, 3), torch.rand(2, 5, 4) * 0.5 + 0.2
    matches = matched_with_objects(logits, boxes, batch)
    assert sorted(matches.target_index.tolist()) == [0, 1, 2, 3]
    both = detection_loss(logits, boxes, matches, batch)
    for name, value in both.items():
        single = []
        for image, own in ((0, [[4.0, 4, 20, 20], [1, 22, 9, 30], [21, 2, 31, 12]]), (1, [[4.0, 4, 20, 20]])):
            part = boxes_of(own)
            chosen = matched_with_objects(logits[image : image + 1], boxes[image : image + 1], part)
            single.append(detection_loss(logits[image : image + 1], boxes[image : image + 1], chosen, part)[name])
        torch.testing.assert_close(value, torch.stack(single).mean())


def test_images_without_objects_teach_background() -> None:
    batch = empty_batch(2)
    logits, boxes = torch.zeros(2, 5, 3, requires_grad=True), torch.full((2, 5, 4), 0.5, requires_grad=True)
    matches = matched_with_objects(logits, boxes, batch)
    found = detection_loss(logits, boxes, matches, batch)
    assert len(matches) == 0 and found["box"].item() == 0
    assert found["class"].item() == pytest.approx(2 * 15 / 5 * 0.75 * 0.25 * math.log(2), rel=1e-5)
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert boxes.grad is not None and boxes.grad.abs().sum() == 0


def test_objects_get_the_query_that_says_so() -> None:
    batch = boxes_of([[4.0, 4, 20, 20], [1, 22, 9, 30]])
    boxes = centred(batch.boxes_px.flip(0), (32, 32))[None]
    found = matched_with_objects(torch.zeros(1, 2, 3), boxes, batch)
    assert found.query_index.tolist() == [0, 1] and found.target_index.tolist() == [1, 0]


def test_positional_queries_belong_to_the_object_that_they_come_from() -> None:
    rows = torch.tensor([[0, 1, -1], [2, -1, -1]])
    found = matched_with_own(Probes(torch.zeros(2, 3, 4), rows))
    assert found.image_index.tolist() == [0, 0, 1]
    assert found.query_index.tolist() == [0, 1, 0]
    assert found.target_index.tolist() == [0, 1, 2]
