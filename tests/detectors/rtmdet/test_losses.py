from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from edgekd.detectors.outputs import Batch, Guidance, View
from edgekd.detectors.rtmdet.checkpoint import transfer
from edgekd.detectors.rtmdet.decode import grid
from edgekd.detectors.rtmdet.detector import RTMDetDetector
from edgekd.detectors.rtmdet.losses import detection_loss, giou_loss, quality_focal_loss
from edgekd.detectors.rtmdet.network import RTMDet
from edgekd.detectors.spec import NOTHING
from tests.detectors.rtmdet.networks import batch, network


def test_quality_focal_loss_by_hand() -> None:
    logits = torch.tensor([0.0, math.log(3.0)])  # scores 1/2 and 3/4
    found = quality_focal_loss(logits, torch.tensor([0.8, 0.0]))
    assert found.tolist() == pytest.approx([math.log(2) * 0.3**2, math.log(4) * 0.75**2])


def test_giou_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
    targets = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    assert giou_loss(boxes, targets).tolist() == pytest.approx([0.0, 1 - 1 / 3, 1 + 100 / 300])


def test_areas_do_not_overflow_in_float16() -> None:
    boxes = torch.tensor([[0.0, 0.0, 300.0, 400.0]])
    targets = torch.tensor([[10.0, 0.0, 300.0, 400.0]])
    assert torch.isinf((boxes[:, 2] * boxes[:, 3]).half()).all(), "the case is not one"
    found = giou_loss(boxes.half(), targets.half())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(giou_loss(boxes, targets).item(), rel=1e-6)


def test_losses_by_hand() -> None:
    """One point is positive, with the box of the ground truth a third of which it has."""
    points, strides = grid(((2, 2),), (8,), torch.device("cpu"))
    facts = Batch(
        torch.zeros(1, 3, 16, 16), torch.tensor([0]), torch.tensor([1]), torch.tensor([[4.0, 4.0, 14.0, 14.0]])
    )
    boxes = torch.tensor([9.0, 4.0, 19.0, 14.0]).expand(1, 4, 4).clone().requires_grad_()
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    found = detection_loss(logits, boxes, points, strides, facts)
    assert found.assignment.foreground[0].tolist() == [False, False, False, True]
    assert found.assignment.box_index[0].tolist() == [-1, -1, -1, 0]
    assert found.assignment.class_targets[0, 3].tolist() == pytest.approx([0.0, 1 / 3])
    background = 7 * math.log(2) * 0.25
    assert found.classes.item() == pytest.approx(
        background + math.log(2) * (1 / 2 - 1 / 3) ** 2
    )  # divided by 1, at least
    assert found.boxes.item() == pytest.approx(2 * (1 - 1 / 3) / 3)
    found.boxes.backward()
    assert boxes.grad is not None
    assert boxes.grad[0, :3].abs().sum() == 0
    assert boxes.grad[0, 3].abs().sum() > 0


def test_divided_by_the_sum_of_qualities() -> None:
    points, strides = grid(((8, 8),), (8,), torch.device("cpu"))
    truth = torch.tensor([[4.0, 4.0, 60.0, 60.0]])
    facts = Batch(torch.zeros(1, 3, 64, 64), torch.tensor([0]), torch.tensor([0]), truth)
    boxes = truth.expand(1, 64, 4) + torch.tensor([0.0, 0.0, -28.0, 0.0])  # half of it: 13 / 2 points are positive
    logits = torch.zeros(1, 64, 1)
    found = detection_loss(logits, boxes, points, strides, facts)
    assert int(found.assignment.foreground.sum()) == 6
    assert found.boxes.item() == pytest.approx(2 * 0.5)
    assert found.classes.item() == pytest.approx(58 * math.log(2) * 0.25 / 3)


def test_an_image_without_objects_is_background_and_trains_the_classes() -> None:
    detector = RTMDetDetector(network().train(), "rtmdet-p")
    facts = batch()
    empty = Batch(facts.images, facts.image_index[:0], facts.class_ids[:0], facts.boxes_px[:0])
    found = detector.training_pass(empty, NOTHING, Guidance())
    assert found.items["box_loss"] == 0
    found.loss.sum().backward()
    gradients = {name: value.grad for name, value in detector.module.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values()), "all take part"
    assert gradients["bbox_head.rtm_reg.0.weight"].abs().sum() == 0
    assert gradients["bbox_head.rtm_cls.0.weight"].abs().sum() > 0


def test_images_without_labels_take_no_part() -> None:
    """Two images with the same objects: of the second it is not known, so the loss is that of the first alone."""
    facts = batch()
    points, strides = grid(((8, 12), (4, 6), (2, 3)), (8, 16, 32), torch.device("cpu"))
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 126, 3, generator=generator, requires_grad=True)
    boxes = facts.boxes_px[torch.randint(0, 2, (2, 126), generator=generator)] + 1
    both = Batch(
        facts.images, torch.tensor([0, 0, 1, 1]), facts.class_ids.repeat(2), facts.boxes_px.repeat(2, 1),
        shown=replace(View.whole(facts.images), labelled=torch.tensor([True, False]), all_labelled=False),
    )  # fmt: skip
    found = detection_loss(logits, boxes, points, strides, both)
    first = Batch(facts.images[:1], facts.image_index, facts.class_ids, facts.boxes_px)
    expected = detection_loss(logits[:1], boxes[:1], points, strides, first)
    assert found.classes.item() == pytest.approx(expected.classes.item())
    assert found.boxes.item() == pytest.approx(expected.boxes.item())
    assert not found.assignment.foreground[1].any()
    (gradient,) = torch.autograd.grad(found.classes, logits)
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0


def test_a_network_for_other_classes_begins_with_fresh_class_layers() -> None:
    """Without their prior each point begins with scores of one half, and the background outweighs all else."""
    source, target = network(classes=("one", "other")), network()
    target.bbox_head.reset()
    transfer(source, target)
    kept = source.state_dict()
    for name, value in target.state_dict().items():
        if not name.startswith("bbox_head.rtm_cls."):
            torch.testing.assert_close(value, kept[name], rtol=0, atol=0)
    first = first_loss(target)
    for layer in target.bbox_head.rtm_cls:
        layer.reset_parameters()  # as convolutions are made
    assert first_loss(target) > 50_000 * first
    assert first < 0.01


def test_classes_are_taken_over_by_name() -> None:
    source, target = network(), network(classes=("owl", "newt", "cat"))
    target.bbox_head.reset_classes()
    fresh = target.bbox_head.rtm_cls[0].weight.detach().clone()
    transfer(source, target)
    found, theirs = target.bbox_head.rtm_cls[0], source.bbox_head.rtm_cls[0]
    assert torch.equal(found.weight[[0, 2]], theirs.weight[[2, 0]])
    assert torch.equal(found.weight[1], fresh[1])
    assert found.bias[1].sigmoid().item() == pytest.approx(0.01)
    assert torch.equal(found.bias[[0, 2]], theirs.bias[[2, 0]])


def test_a_network_for_the_same_classes_takes_them_over() -> None:
    source, target = network(), network()
    target.bbox_head.reset_classes()
    transfer(source, target)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def first_loss(found: RTMDet) -> float:
    """Of the classes, on images without objects."""
    detector = RTMDetDetector(found.train(), "rtmdet-p")
    facts = batch()
    empty = Batch(facts.images, facts.image_index[:0], facts.class_ids[:0], facts.boxes_px[:0])
    return float(detector.training_pass(empty, NOTHING, Guidance()).items["cls_loss"])
