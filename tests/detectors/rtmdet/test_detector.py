from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from edgekd import ranks
from edgekd.detectors.capture import run
from edgekd.detectors.outputs import Guidance, TrainingPass
from edgekd.detectors.rtmdet.decode import boxes_px
from edgekd.detectors.rtmdet.detector import RTMDetDetector
from edgekd.detectors.rtmdet.losses import detection_loss
from edgekd.detectors.spec import NOTHING, DenseHead, Needs
from edgekd.errors import InputError
from tests.detectors.rtmdet.networks import CLASSES, batch, detector, images

WHOLE = frozenset({"class_logits", "boxes"})
SHARED = "bbox_head.cls_convs.0.0.conv"


def test_spec() -> None:
    spec = detector().spec
    assert (spec.family, spec.name, spec.class_names, spec.size_multiple) == ("rtmdet", "rtmdet-p", CLASSES, 32)
    assert spec.head == DenseHead((8, 16, 32), point_offset=0.0, bins=1)
    assert spec.parameters == sum(value.numel() for value in detector().module.parameters())
    assert [tap.path for tap in spec.taps_of("neck")] == [f"neck.out_convs.{level}" for level in range(3)]
    assert [tap.path for tap in spec.taps_of("head_cls")] == [f"bbox_head.cls_convs.{level}.1" for level in range(3)]


def test_taps_are_what_the_spec_says() -> None:
    one = detector()
    found = run(one, images(), Needs(one.spec.taps, WHOLE))
    for tap in one.spec.taps:
        assert found.taps[tap.key].shape == (2, tap.channels, 64 // tap.stride, 96 // tap.stride)


def test_a_part_of_the_head_does_not_run_unless_asked_for() -> None:
    one = detector()
    ran = []
    one.module.bbox_head.rtm_reg[0].register_forward_hook(lambda *_: ran.append("boxes"))
    one.module.bbox_head.rtm_cls[0].register_forward_hook(lambda *_: ran.append("class_logits"))
    run(one, images(), one.spec.needs("neck.out_convs.0"))
    assert ran == []
    found = run(one, images(), Needs(parts=frozenset({"class_logits"}))).dense["one2many"]
    assert ran == ["class_logits"]
    assert found.class_logits.shape == (2, 96 + 24 + 6, 3)
    with pytest.raises(RuntimeError, match="add 'boxes' to the method's needs"):
        _ = found.boxes_px


@pytest.mark.parametrize("exponential", [False, True])
def test_boxes_reach_from_the_corners_of_cells(exponential: bool) -> None:
    one = detector(exponential=exponential)
    found = run(one, images(), Needs(parts=WHOLE)).dense["one2many"]
    with torch.no_grad():
        logits, distances = one.module(images())
    torch.testing.assert_close(found.class_logits, logits.transpose(1, 2), rtol=0, atol=0)
    place = 96 + 24 + 1  # of the coarsest level: x = 32, y = 0
    left, top, right, bottom = (distances[1, :, place] * 32).tolist()
    assert found.boxes_px[1, place].tolist() == pytest.approx([32 - left, -top, 32 + right, bottom], rel=1e-5, abs=1e-4)
    assert found.level_sizes == ((8, 12), (4, 6), (2, 3))


@pytest.mark.parametrize("named", [(), (SHARED, "neck.top_down_blocks.1.main_conv.bn")])
def test_a_frozen_copy_gives_the_same(named: tuple[str, ...]) -> None:
    one = detector().with_taps(named)
    needs = Needs(one.spec.taps, WHOLE)
    frozen = one.frozen()
    ours, theirs = run(one, images(), needs), run(frozen, images(), needs)
    assert list(ours.taps) == list(theirs.taps)
    for key, value in ours.taps.items():
        torch.testing.assert_close(theirs.taps[key], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(theirs.dense["one2many"].boxes_px, ours.dense["one2many"].boxes_px, rtol=1e-4, atol=1e-3)
    assert not any(value.requires_grad for value in frozen.module.parameters())
    assert any(value.requires_grad for value in one.module.parameters())


def test_a_convolution_that_levels_share_is_a_tap_for_each() -> None:
    one = detector().with_taps([SHARED, "nowhere", "bbox_head.cls_convs"])
    taps = [tap for tap in one.spec.taps if tap.role == "named"]
    assert [(tap.path, tap.call, tap.stride, tap.part) for tap in taps] == [
        (SHARED, call, stride, "class_logits") for call, stride in enumerate((8, 16, 32))
    ]
    found = run(one, images(), one.spec.needs(*(tap.key for tap in taps)))
    assert [found.taps[tap.key].shape[2] for tap in taps] == [8, 4, 2]
    assert one.with_taps([SHARED]) is one


@pytest.mark.parametrize("part", ["class_logits", "boxes"])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_the_tail_of_a_tower_goes_on_where_it_was_cut(part: str, cut: int) -> None:
    one = detector(exponential=True)
    kind = "reg_convs" if part == "boxes" else "cls_convs"
    before = "neck.out_convs.1" if cut == 0 else f"bbox_head.{kind}.1.{cut - 1}"
    one = one.with_taps([before])
    with torch.no_grad():
        taps = run(one, images(), replace(one.spec.needs(before), parts=WHOLE)).taps
        logits, distances = one.module(images())
        found = one.head_tail(part, 1, cut, "one2many")(taps[before])  # type: ignore[arg-type]
    whole = distances if part == "boxes" else logits
    torch.testing.assert_close(found.flatten(2), whole[:, :, 96 : 96 + 24], rtol=1e-5, atol=1e-5)


def test_no_such_tail() -> None:
    with pytest.raises(InputError, match="rtmdet-p: head_tail: cut 3 of a tower of 3 layers; choose 0 to 2"):
        detector().head_tail("boxes", 0, 3, "one2many")
    with pytest.raises(InputError, match="rtmdet-p: head_tail: has no branch one2one; it has one2many"):
        detector().head_tail("boxes", 0, 0, "one2one")


def test_the_exported_module_gives_boxes_and_scores() -> None:
    one = detector(exponential=True)
    before = copy.deepcopy(one.module.state_dict())
    boxes, scores = one.export_module()(images())
    expected = run(one, images(), Needs(parts=WHOLE)).dense["one2many"]
    torch.testing.assert_close(boxes, expected.boxes_px, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(scores, expected.class_logits.sigmoid(), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in one.module.state_dict().items())


def trained(guidance: Guidance | None = None) -> tuple[RTMDetDetector, TrainingPass]:
    one = detector()
    one.module.train()
    needs = Needs(one.spec.taps_of("neck"), frozenset({"assignment"}))
    return one, one.training_pass(batch(), needs, guidance or Guidance())


def test_a_training_pass() -> None:
    one, found = trained()
    dense = found.output.dense["one2many"]
    expected = detection_loss(dense.class_logits, dense.boxes_px, dense.points_px, dense.point_strides, batch())
    assert found.loss.tolist() == pytest.approx([expected.boxes.item(), expected.classes.item()])
    assert {name: value.item() for name, value in found.items.items()} == pytest.approx(
        {"box_loss": expected.boxes.item(), "cls_loss": expected.classes.item()}
    )
    assert torch.equal(dense.assignment.box_index, expected.assignment.box_index)
    assert dense.assignment.box_index[0].max() == 1
    assert (dense.assignment.box_index[1] == -1).all(), "the second image has no object"
    assert set(found.anchors) == {"head.scores", "head.boxes", *(tap.key for tap in one.spec.taps_of("neck"))}
    gradients = torch.autograd.grad(found.loss.sum(), list(found.anchors.values()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_no_assignment_is_kept_that_nobody_asked_for() -> None:
    one = detector()
    one.module.train()
    found = one.training_pass(batch(), NOTHING, Guidance())
    with pytest.raises(RuntimeError, match="add 'assignment' to the method's needs"):
        _ = found.output.dense["one2many"].assignment
    assert found.output.taps == {}


def test_a_teacher_decides_which_points_are_positive() -> None:
    """Its boxes fit where it looks, and nowhere else; so those points alone are positive, whatever the student says."""
    facts = batch()
    scores, boxes = torch.full((2, 126, 3), 0.01), torch.full((2, 126, 4), 500.0)
    chosen = [12 * 2 + 2, 12 * 3 + 3]  # points (16, 16) and (24, 24)
    boxes[0, chosen], scores[0, chosen, 1] = facts.boxes_px[0], 0.9
    _, found = trained(Guidance({"one2many": (scores, boxes)}))
    assignment = found.output.dense["one2many"].assignment
    assert torch.nonzero(assignment.box_index[0] == 0).flatten().tolist() == chosen
    assert assignment.class_targets[0, chosen, 1].tolist() == pytest.approx([1, 1])


def test_in_mixed_precision_the_loss_is_computed_in_float32() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        _, found = trained()
    assert found.anchors["head.scores"].dtype == torch.bfloat16
    dense = found.output.dense["one2many"]
    boxes = boxes_px(found.anchors["head.boxes"].float(), dense.points_px, dense.point_strides)
    logits = found.anchors["head.scores"].float().transpose(1, 2)
    expected = detection_loss(logits, boxes, dense.points_px, dense.point_strides, batch())
    assert found.loss.tolist() == pytest.approx([expected.boxes.item(), expected.classes.item()], rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_ranks_divide_by_what_all_of_them_have(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other rank has none: so each divides by half of what this one has. The engine adds the ranks' losses up.

    In a validation ranks have unequal numbers of batches, and nobody would answer.
    """
    one = detector()
    one.module.train(training)
    alone = one.training_pass(batch(), NOTHING, Guidance())
    asked: list[float] = []
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: asked.append(float(value)))
    both = one.training_pass(batch(), NOTHING, Guidance())
    assert len(asked) == training
    share = asked[0] / max(asked[0] / 2, 1) if training else 1.0  # of the qualities' sum, at least 1
    for name, value in alone.items.items():
        assert both.items[name].item() == pytest.approx(value.item() * share, rel=1e-4)
    assert both.loss.sum().item() == pytest.approx(sum(value.item() for value in both.items.values()) / 2)
