from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from edgekd.distill.contract import distiller_type
from edgekd.distill.requirements import unmet

from ..helpers import batch_of, build, pair_of, random_output, spec, terms

TWO = ("one2many", "one2one")


@pytest.mark.parametrize("name", ["lad", "solad"])
@pytest.mark.parametrize("branches", [TWO, ("one2many",)], ids=["two", "one"])
def test_the_teachers_scores_and_boxes_go_to_every_branch(name: str, branches: tuple[str, ...]) -> None:
    student, teacher = spec("yolo26n", branches=TWO), spec("yolo26x", branches=branches)
    method, output = build(name, student, teacher), random_output(teacher)
    guidance = method.guidance(method.knowledge(output, batch_of()), batch_of())
    assert method.guides and set(guidance.assign_by) == set(TWO)
    for branch, (scores, boxes) in guidance.assign_by.items():
        source = output.dense.get(branch, output.dense["one2many"])
        assert torch.equal(scores, source.class_logits.sigmoid()) and torch.equal(boxes, source.boxes_px)


def test_it_has_no_term() -> None:
    side = spec("a")
    assert terms(build("lad", side, side), random_output(side), random_output(side, seed=1)) == {}


def test_there_is_nothing_to_weight() -> None:
    kind = distiller_type("lad").config_type
    assert kind(weight="auto").weight == "auto" and kind().weight == 1.0
    with pytest.raises(ValidationError, match="there is no loss term to weight; leave weight out"):
        kind(weight=2.0)


@pytest.mark.parametrize("name", ["lad", "solad"])
def test_a_teacher_that_cannot_decide_for_the_student_is_refused(name: str) -> None:
    """The assigner wants scores of all classes at all points."""
    student = spec("yolo11n", (4, 6, 8), (8, 16, 32))
    teacher = replace(spec("other"), class_names=("one", "three"))
    assert unmet(distiller_type(name).requires, pair_of(student, teacher)) == [
        "needs all points of the student on the teacher; student yolo11n has strides 8, 16, 32 at offset 0.5, "
        "teacher other has strides 8, 16 at offset 0.5",
        "needs a teacher that knows all classes of the data; the data has one, two, three, "
        "teacher other does not know two",
    ]
