"""Which boxes a detector proposes, by hand, of heads of all kinds."""

from __future__ import annotations

import pytest
import torch

from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.parts import Proposals
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.regions import RegionPredictions, Regions, overlaps, strongest
from edgekd.detectors.spec import Needs, Tap
from tests.distill.helpers import random_output, spec

IMAGES = torch.zeros(2, 3, 64, 96)
ALL = Proposals(limit=1000, nms_iou=1.0)


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


def test_proposals_are_of_the_best_class_that_is_known() -> None:
    """The last layer of a query head; a region head's best of each region."""
    boxes = torch.tensor([[[0.0, 0, 20, 20], [30, 30, 50, 50]]])
    logits = torch.tensor([[[0.0, 5.0, -1.0], [1.0, -2.0, 2.0]]])
    known = torch.tensor([True, False, True])
    queries = QueryPredictions(
        torch.stack([torch.full_like(logits, 9.0), logits]), torch.stack([boxes + 5, boxes]), (0, 1), known
    )
    for output in (
        DetectorOutput({}, queries=queries),
        DetectorOutput({}, regions=RegionPredictions(logits, boxes, known)),
    ):
        regions, scores = output.proposals(ALL, IMAGES[:1])
        assert regions.boxes_px.tolist() == [[[30, 30, 50, 50], [0, 0, 20, 20]]]
        assert scores[0].tolist() == pytest.approx([torch.tensor(2.0).sigmoid().item(), 0.5])


def test_of_a_dense_head_those_of_its_first_branch() -> None:
    output = random_output(spec("a"))
    dense = output.dense["one2many"]
    regions, scores = output.proposals(Proposals(limit=3, nms_iou=0.5, min_score=0.1), torch.zeros(2, 3, 32, 32))
    assert scores.shape[1] == 3
    assert not regions.boxes_px.requires_grad
    assert float(scores[0, 0]) == pytest.approx(float(dense.class_logits[0].detach().sigmoid().max()))


def test_classes_of_a_region_head_are_mapped() -> None:
    output = DetectorOutput({}, regions=RegionPredictions(torch.tensor([[[1.0, 2.0]]]), torch.zeros(1, 1, 4)))
    regions = ClassMap.by_name(("dog", "cat"), ("cat", "owl")).apply(output).regions
    assert regions is not None and regions.known_classes is not None
    assert (regions.class_logits[..., 0].item(), regions.known_classes.tolist()) == (2.0, [True, False])


def test_what_is_not_there_is_asked_for() -> None:
    with pytest.raises(RuntimeError, match="proposals were not computed: add `Proposals` to the method's needs"):
        DetectorOutput({}).proposals(ALL, IMAGES)


def test_needs_of_proposals_merge_and_run_the_predictions() -> None:
    """A detector is asked for predictions; that there are two kinds of proposals is no matter of it."""
    one, other = (Needs(parts=frozenset({Proposals(10, iou)})) for iou in (0.5, 0.7))
    both = one | other | one
    assert both.parts == one.parts | other.parts and len(both.parts) == 2
    assert both.head == frozenset({"class_logits", "boxes"})
    assert not both.at_points
    assert both.head_names == "boxes, class_logits"
    assert (both | Needs(parts=frozenset({"boxes"}))).at_points
    assert Needs((Tap("head_cls", "a", 8, 4, part="class_logits"),)).at_points
    assert not Needs((Tap("neck", "a", 8, 4),)).at_points
    assert str(Proposals(10, 0.5, 0.05)) == "proposals (10 an image, NMS at 0.5, scores above 0.05)"
