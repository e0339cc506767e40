from dataclasses import replace

import pytest
import torch

from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import Spec
from edgekd.distill.contract import distiller_type
from edgekd.distill.frozen import no_parts
from edgekd.distill.head.bckd import binary_class_loss
from edgekd.distill.head.crosskd import overlap_loss
from edgekd.distill.head.ld import ld_loss
from edgekd.distill.requirements import unmet

from ..helpers import CLASSES, assigned, batch_of, build, dense, pair_of, random_output, spec, terms


def as_its_head_says(side: Spec, seed: int = 0) -> DetectorOutput:
    """Maps of a detector, and the predictions that its own tails make of them."""
    output = random_output(side, seed=seed)
    tail, classes, bins = pair_of(side, side).head_tail, len(side.class_names), side.head.bins
    made = {}
    for branch in side.branches:
        found = {}
        for part in ("class_logits", "boxes"):
            taps = [side.tower(part, level, branch).taps[0] for level in range(2)]  # type: ignore[union-attr, arg-type]
            rows = [tail(part, level, 1, branch)(output.taps[tap.key]).flatten(2) for level, tap in enumerate(taps)]  # type: ignore[arg-type]
            found[part] = torch.cat(rows, 2).transpose(1, 2).detach()
        boxes = found["boxes"].unflatten(2, (4, bins)) if bins > 1 else None
        distances = found["boxes"] if bins == 1 else None
        logits = found["class_logits"][..., :classes]
        made[branch] = assigned(dense(logits, boxes, distances, size_px=32, strides=[8, 16]), batch_of())
    return DetectorOutput(output.taps, made)


@pytest.mark.parametrize("bins", [1, 4])
def test_zero_where_the_students_features_are_the_teachers(bins: int) -> None:
    side = spec("a", towers=True, bins=bins, branches=("one2many", "one2one"))
    teacher = as_its_head_says(side)
    found = terms(build("crosskd", side, side), teacher, teacher)
    assert found["class"].item() == pytest.approx(0.0, abs=1e-4)
    assert found["box"].item() == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("bins", [1, 4])
def test_values_of_the_teachers_tail_on_aligned_features(bins: int) -> None:
    side = spec("a", towers=True, bins=bins)
    student, teacher = random_output(side), as_its_head_says(side, seed=1)
    method = build("crosskd", side, side)
    aligned = {}
    for tower in side.towers:
        key = tower.taps[0].key
        ours, theirs = student.taps[key], teacher.taps[key]
        mean, deviation = (theirs.mean((0, 2, 3), keepdim=True), theirs.std((0, 2, 3), keepdim=True))
        scaled = (ours - ours.mean((0, 2, 3), keepdim=True)) / ours.std((0, 2, 3), keepdim=True)
        aligned[key] = (scaled * deviation + mean).detach()
    judged = as_its_head_says(side).dense["one2many"]  # the grid
    made = {}
    for part in ("class_logits", "boxes"):
        rows = [
            pair_of(side, side).head_tail(part, level, 1, "one2many")(aligned[f"head.{part}.one2many.{stride}.0"])  # type: ignore[arg-type]
            for level, stride in enumerate((8, 16))
        ]
        made[part] = torch.cat([row.flatten(2) for row in rows], 2).transpose(1, 2)
    theirs = teacher.dense["one2many"]
    weight = theirs.class_logits.amax(-1).sigmoid()
    found = terms(method, student, teacher)
    classes = binary_class_loss(made["class_logits"], theirs.class_logits, judged.assignment.foreground.sum())
    assert found["class"].item() == pytest.approx(classes.item(), rel=1e-3)
    if bins > 1:
        pair = made["boxes"].unflatten(2, (4, bins)).flatten(0, 1), theirs.box_logits.flatten(0, 1)  # type: ignore[union-attr]
        assert found["box"].item() == pytest.approx(4 * ld_loss(*pair, weight.flatten()).item(), rel=1e-3)
    else:
        boxes = dense(made["class_logits"], distances=made["boxes"], size_px=32, strides=[8, 16]).boxes_px
        assert found["box"].item() == pytest.approx(overlap_loss(boxes, theirs.boxes_px, weight).item(), rel=1e-3)


def test_the_teachers_columns_are_brought_into_the_datas_order() -> None:
    """A teacher with its classes in another order, and one more, teaches the same as it would in the data's order."""
    teacher = spec("other", towers=True, class_names=("three", "one", "zero", "two"))
    output = as_its_head_says(teacher, seed=1)
    mapped = ClassMap.by_name(teacher.class_names, CLASSES).apply(output)
    same = terms(build("crosskd", replace(teacher, class_names=CLASSES), teacher), mapped, mapped)
    assert same["class"].item() == pytest.approx(0.0, abs=1e-4)


def test_gradients_reach_the_students_towers_through_the_teachers_tail() -> None:
    side = spec("a", towers=True)
    student = random_output(side)
    sum(terms(build("crosskd", side, side), student, random_output(side, seed=1)).values()).backward()  # type: ignore[union-attr]
    for tower in side.towers:
        gradient = student.taps[tower.taps[0].key].grad
        assert gradient is not None and gradient.abs().sum() > 0
    assert student.dense["one2many"].class_logits.grad is None, "its own predictions are left alone"


def test_refusals() -> None:
    requires = distiller_type("crosskd").requires
    student, teacher = spec("yolo26n", towers=True, bins=1), spec("yolo11x", towers=True, bins=16)
    assert unmet(requires, pair_of(student, teacher)) == [
        "needs as many bins of the box distribution on both sides; "
        "student yolo26n has reg_max=1, teacher yolo11x has reg_max=16"
    ]
    average = replace(pair_of(student, student), head_tail=no_parts)
    assert unmet(requires, average) == [
        "needs a teacher that stays the same; the average of student yolo26n changes in every step"
    ]
    whole = replace(teacher, towers=())
    assert unmet(requires, pair_of(teacher, whole)) == [
        "needs heads whose towers can be cut; student yolo11x has 4 such towers, teacher yolo11x has 0 such towers"
    ]
