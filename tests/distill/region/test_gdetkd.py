import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from edgekd.detectors.outputs import Batch
from edgekd.detectors.spec import QueryHead
from edgekd.distill.contract import distiller_type
from edgekd.distill.region.contrast import ckd_loss
from edgekd.distill.region.gdetkd import sgfi_loss

from ..helpers import batch_of, build, moment, random_output, scene, spec, terms

SIDE = spec("a", (4, 6))
NO_OBJECT = Batch(torch.zeros(2, 3, 32, 32), torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0, 4))


def test_imitation_by_hand() -> None:
    """Two regions; the second has one real channel of two."""
    student = torch.tensor([[1.0, 3.0], [4.0, 9.0]]).reshape(2, 2, 1, 1)
    real = torch.tensor([[True, True], [True, False]])
    assert sgfi_loss(student, torch.zeros(2, 2, 1, 1), real).item() == pytest.approx(((1 + 9) / 2 + 16) / 2)
    assert sgfi_loss(student, student, real).item() == 0.0


def test_contrast_by_hand() -> None:
    """Right angles: each region has its positive at 1 and one negative at 0, then a former one at 0, too."""
    vectors, apart, gamma = torch.eye(2, 3), torch.zeros(2, 2).bool(), 0.5
    one = math.log(1 + math.exp(-1 / gamma))
    assert ckd_loss(vectors, vectors, apart, torch.zeros(0, 3), gamma).item() == pytest.approx(one)
    two = math.log(1 + 2 * math.exp(-1 / gamma))
    assert ckd_loss(vectors, vectors, apart, torch.tensor([[0.0, 0, 1]]), gamma).item() == pytest.approx(two)


def test_contrast_leaves_out_what_overlaps_but_never_the_positive() -> None:
    vectors = torch.eye(2, 3)
    assert ckd_loss(vectors, vectors, torch.ones(2, 2).bool(), torch.zeros(0, 3)).item() == 0.0
    assert ckd_loss(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 0).bool(), vectors).item() == 0.0


def test_levels_weigh_by_their_likeness_to_the_teachers_region() -> None:
    """Keys that only look at the first channel, sharply: the level that holds the teacher's sign there is taken."""
    method = build("gdetkd", SIDE, spec("b", (6, 6)), regions="ground_truth", embedding=8, size=4)
    method.adapters = nn.ModuleList([nn.Identity(), nn.Identity()])
    method.embed = nn.Conv2d(6, 1, 1, bias=False)
    with torch.no_grad():
        method.embed.weight.zero_()[0, 0] = 1.0
        method.logit_scale.fill_(4.0)  # type: ignore[operator, union-attr]
    student, teacher = random_output(spec("a", (6, 6))), random_output(spec("b", (6, 6)), seed=1)
    for tap, value in (("neck.8", -1.0), ("neck.16", 2.0)):
        student.taps[tap].data.fill_(value)
    teacher.taps["neck.8"].data.fill_(1.0)
    value = terms(method, student, teacher, batch_of())["imitation"].item()
    assert value == pytest.approx((2.0 - 1.0) ** 2, rel=1e-4)
    method.config = method.config.model_copy(update={"uniform_steps": 1})
    assert terms(method, student, teacher, batch_of())["imitation"].item() == pytest.approx(0.25, rel=1e-4)


def test_former_steps_are_negatives_and_survive_a_resume() -> None:
    student, teacher, batch = random_output(SIDE), random_output(SIDE, seed=1), scene()
    first, again = build("gdetkd", SIDE, SIDE), build("gdetkd", SIDE, SIDE)
    known = first.knowledge(teacher, batch)
    once = first.terms(student, known, batch, moment(0))["contrast"].item()
    assert first.terms(student, known, batch, moment(0))["contrast"].item() == once
    again.load_state_dict(first.state_dict())
    later = [one.terms(student, known, batch, moment(1))["contrast"].item() for one in (first, again)]
    assert later[0] == later[1] > once


def test_each_half_can_be_left_out() -> None:
    student, teacher = random_output(SIDE), random_output(SIDE, seed=1)
    for key, name in (("contrast", "imitation"), ("imitation", "contrast")):
        method = build("gdetkd", SIDE, SIDE, **{key: 0})
        values = terms(method, student, teacher, scene())
        assert list(values) == [name]
        values[name].backward()
        assert all(parameter.grad is not None for parameter in method.parameters())
    with pytest.raises(ValueError, match="imitation and contrast are both 0; leave one above 0"):
        distiller_type("gdetkd").config_type(imitation=0, contrast=0)  # type: ignore[call-arg]


def test_strides_and_heads_may_differ() -> None:
    """A student of strides 4 and 8 and a query teacher of stride 16, whose detections are regions."""
    query = replace(spec("rtdetr", (5,), (16,)), head=QueryHead(6, 300, 256))
    student, teacher = random_output(spec("fine", (3, 4), (4, 8))), random_output(spec("rtdetr", (5,), (16,)), seed=1)
    method = build("gdetkd", spec("fine", (3, 4), (4, 8)), query, regions="ground_truth")
    value = terms(method, student, replace(teacher, dense={}), scene())
    assert value["imitation"].item() > 0 and value["contrast"].item() > 0


def test_no_object_gives_zero_that_is_connected() -> None:
    student = random_output(SIDE)
    values = terms(build("gdetkd", SIDE, SIDE, regions="ground_truth"), student, random_output(SIDE, seed=1), NO_OBJECT)
    assert [value.item() for value in values.values()] == [0.0, 0.0]
    sum(values.values()).backward()  # type: ignore[union-attr]
    assert student.taps["neck.8"].grad is not None


def test_magnitude_beside_a_detection_loss() -> None:
    """Unrelated features of unit variance: less than 1 from the imitation, and about the logarithm of the negatives."""
    side = spec("a", (64, 64))
    values = terms(build("gdetkd", side, side), random_output(side), random_output(side, seed=1), scene())
    assert 0.1 < values["imitation"].item() < 1.0 and 1.0 < values["contrast"].item() < 15
