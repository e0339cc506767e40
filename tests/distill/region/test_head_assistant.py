import math
from dataclasses import replace

import pytest
import torch

from edgekd.detectors.outputs import Batch, View
from edgekd.detectors.parts import Proposals
from edgekd.detectors.spec import RegionHead
from edgekd.distill.region.head_assistant import assistant_loss, deltas_of
from edgekd.errors import InputError

from ..helpers import build, random_output, scene, spec, terms

SIDE = spec("a", (4, 6))


def test_deltas_by_hand_and_as_torchvision_counts_them() -> None:
    boxes, targets = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 0, 25, 20]])
    assert deltas_of(boxes, targets)[0].tolist() == pytest.approx([1.0 / 0.1, 0.0, math.log(2) / 0.2, 0.0])
    from torchvision.models.detection._utils import BoxCoder

    torch.manual_seed(0)
    corners = torch.rand(2, 7, 2) * 50
    many = torch.cat([corners, corners + 5 + torch.rand(2, 7, 2) * 40], -1)
    expected = BoxCoder((10.0, 10.0, 5.0, 5.0)).encode_single(many[1], many[0])
    torch.testing.assert_close(deltas_of(many[0], many[1]), expected, rtol=1e-4, atol=1e-4)


def test_loss_by_hand() -> None:
    """An object of class 1 whose box is right but for one delta, and background: both sums are over two regions."""
    logits = torch.tensor([[0.0, math.log(2.0), 0.0], [0.0, 0.0, 0.0]])
    deltas = torch.zeros(2, 2, 4)
    deltas[0, 1, 2] = 0.5
    deltas[:, 0] = 9.0  # of other classes than the region's
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8]])
    classes, locations = assistant_loss(logits, deltas, torch.tensor([1, 2]), boxes, boxes)
    assert classes.item() == pytest.approx((math.log(2) + math.log(3)) / 2)
    assert locations.item() == pytest.approx(0.5 / 2)


def test_regions_are_labelled_by_overlap_and_sampled_in_their_share() -> None:
    method = build("head_assistant", SIDE, SIDE, width=8, regions=8, objects=0.25)
    student = random_output(SIDE)
    generator = torch.Generator().manual_seed(0)
    regions, labels, targets = method._sampled(student, scene(), generator)  # type: ignore[operator]
    for image in range(2):
        own = labels[regions.image_index == image]
        assert len(own) <= 8 and 1 <= (own < 3).sum() <= 2 and (own == 3).any()
    truth = scene().boxes_px.tolist()
    assert all(target.tolist() in truth for target, label in zip(targets, labels, strict=True) if label < 3)
    again = method._sampled(student, scene(), torch.Generator().manual_seed(0))  # type: ignore[operator]
    assert torch.equal(again[0].valid, regions.valid)


def test_no_object_is_all_background() -> None:
    none = Batch(torch.zeros(2, 3, 32, 32), torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0, 4))
    values = terms(build("head_assistant", SIDE, SIDE, width=8), random_output(SIDE), random_output(SIDE, seed=1), none)
    assert values["box"].item() == 0.0 and values["class"].item() > 0


def test_images_without_labels_teach_nothing() -> None:
    method, batch = build("head_assistant", SIDE, SIDE, width=8), scene()
    half = replace(batch, shown=replace(View.whole(batch.images), labelled=torch.tensor([True, False])))
    regions, _, _ = method._sampled(random_output(SIDE), half, torch.Generator())  # type: ignore[operator]
    assert set(regions.image_index.tolist()) == {0}


def test_asks_nothing_of_the_teacher() -> None:
    method = build("head_assistant", SIDE, SIDE, width=8)
    assert not method.wiring.teacher.taps and not method.wiring.teacher.head


def test_imitation_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError) as caught:
        build("head_assistant", SIDE, spec("yolo11x"), imitation=True)
    assert str(caught.value) == (
        "head_assistant: imitation needs a region head that is run on the student's regions; teacher yolo11x has a "
        "dense head; set imitation: false"
    )
    with pytest.raises(InputError, match="teacher r has one for regions of its own alone; set imitation: false"):
        build("head_assistant", SIDE, replace(spec("r"), head=RegionHead(8)), imitation=True)


def test_it_asks_for_proposals_of_the_student() -> None:
    parts = build("head_assistant", SIDE, SIDE, width=8).wiring.student.parts
    assert parts == {Proposals(limit=1000, nms_iou=0.7)}


def test_magnitude_is_that_of_a_classifier_at_random() -> None:
    values = terms(build("head_assistant", SIDE, SIDE, width=64), random_output(SIDE), random_output(SIDE), scene())
    assert values["class"].item() == pytest.approx(math.log(4), rel=0.2) and 0 < values["box"].item() < 5
