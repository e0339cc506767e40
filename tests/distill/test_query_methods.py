"""What every method on queries promises, with two small RT-DETRs, and a YOLO where it takes one."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from edgekd.detectors.outputs import View
from edgekd.distill.contract import distiller_names, distiller_type
from edgekd.distill.requirements import query_distributions, query_heads, query_teacher, unmet
from edgekd.errors import InputError

from .helpers import moment, pair_of
from .query_scene import NAMES, Step, batch, known, made, opened, pair_for, step, student_of, teacher_of

ON_QUERIES = [
    name
    for name in distiller_names()
    if query_heads in (requires := distiller_type(name).requires) and query_distributions not in requires
]
METHODS: dict[str, dict[str, object]] = {
    **{name: {} for name in (*ON_QUERIES, "kd_detr", "query_ld")},
    "kd_detr teacher's content": {"content": "teacher", "general": 0, "specific": 40},
    "detrdistill features": {"prediction": 0, "queries": 0},
    "clockdistill answers": {"memory": 0, "jitter": 0.5},
    "dlim drawn": {"matched": 20, "layers": "last"},
    "kd_detr of a yolo": {"general": 50, "specific": 20},
}


@pytest.fixture(params=METHODS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@cache
def kept(variant: str) -> Step:
    """One step of a variant on the plain batch, shared by tests, which leave the graph in place."""
    return taken(variant)


def taken(variant: str, **changes: object) -> Step:
    """One step of a variant."""
    method = variant.split(maxsplit=1)[0]
    student, teacher = pair_for(method)
    pair: dict[str, object] = {"student": student_of("yolo11p") if variant.endswith("yolo") else student}
    return step(method, **{**pair, "teacher": teacher, **changes, **METHODS[variant]})  # type: ignore[arg-type]


def test_gradients_reach_student_and_adapters_but_not_the_teacher(variant: str) -> None:
    found = kept(variant)
    assert all(value.shape == () and value.dtype == torch.float32 and value >= 0 for value in found.terms.values())
    total = sum(found.terms.values())
    assert isinstance(total, torch.Tensor)
    anchors = torch.autograd.grad(total, list(found.found.anchors.values()), retain_graph=True, allow_unused=True)
    assert any(one is not None and float(one.abs().sum()) > 0 for one in anchors), "where its share is measured"
    torch.autograd.backward(total, retain_graph=True)
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in found.method.parameters())
    assert all(value.grad is None for value in teacher_of().module.parameters())


def test_random_numbers_are_the_methods_own(variant: str) -> None:
    found = kept(variant)
    before = torch.get_rng_state()
    found.method.terms(found.found.output, found.knowledge, batch(), moment())
    assert torch.equal(torch.get_rng_state(), before)


def test_terms_beside_the_detection_loss(variant: str) -> None:
    """With default factors no part is lost in the loss, none drowns it; memory by place is small, as published."""
    found = taken(variant)
    detection, own = (
        float(found.found.loss.detach().sum()),
        float(sum(value.detach() for value in found.terms.values())),
    )
    assert 1e-4 * detection < own < 10 * detection


def test_knowledge_is_per_image_and_can_be_stored(variant: str) -> None:
    found, given = kept(variant), batch()
    assert all(len(value) == 3 and not value.requires_grad for value in found.knowledge.values())
    stored = [{key: value[image].clone() for key, value in found.knowledge.items()} for image in range(3)]
    read_back = {key: torch.stack([one[key] for one in stored]) for key in found.knowledge}
    again = found.method.terms(found.found.output, read_back, given, moment())
    for key, value in found.terms.items():
        assert float(again[key].detach()) == pytest.approx(float(value.detach()), rel=1e-5, abs=1e-7)


def test_the_same_images_give_the_same_knowledge(variant: str) -> None:
    """Random points are the images' own: no state, and others for other images."""
    found, given = kept(variant), batch()
    again = known(found.method, pair_for(found.method.name)[1], given)
    assert all(torch.equal(value, again[key]) for key, value in found.knowledge.items())


def test_a_batch_without_any_object(variant: str) -> None:
    found = taken(variant, given=batch(objects=()))
    total = sum(found.terms.values())
    assert isinstance(total, torch.Tensor)
    assert all(math.isfinite(value.detach()) for value in found.terms.values())
    if total.requires_grad:
        torch.autograd.backward(total)
    grads = [value.grad for value in found.method.parameters() if value.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("variant", ["detrdistill", "od_detr"])
def test_images_without_labels(variant: str) -> None:
    """Their boxes say nothing: the terms are the same whatever they are."""
    view = replace(View.whole(batch().images), labelled=torch.tensor([True, False, True]), all_labelled=False)
    objects = ((0, 0, 0.3, 0.3, 0.3, 0.4), (2, 1, 0.4, 0.6, 0.5, 0.3))
    with_box = (*objects, (1, 2, 0.5, 0.5, 0.4, 0.4))
    values = [taken(variant, given=replace(batch(given), shown=view)).terms for given in (objects, with_box)]
    for key, value in values[0].items():
        assert float(values[1][key]) == pytest.approx(float(value), rel=1e-3)


@pytest.mark.parametrize("variant", [*ON_QUERIES, "kd_detr", "query_ld"])
def test_values_hold_at_half_precision(variant: str) -> None:
    """bfloat16 has 8 bits: a matching may have other pairs, a term is off by a few per cent at most."""
    whole = {name: float(value.detach()) for name, value in step(variant, *pair_for(variant)).terms.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = step(variant, *pair_for(variant))
    assert {name: float(value.detach()) for name, value in found.terms.items()} == pytest.approx(whole, rel=0.05)
    total = sum(found.terms.values())
    assert isinstance(total, torch.Tensor)
    assert total.dtype == torch.float32
    torch.autograd.backward(total)
    assert all(value.grad is not None and value.grad.isfinite().all() for value in found.method.parameters())


def test_two_ranks_mean_what_one_does(variant: str) -> None:
    """Terms are means, so that of two ranks with the same images is that of one with all of them."""
    found = taken(variant, given=batch(copies=2)).terms
    for key, value in kept(variant).terms.items():
        assert float(found[key].detach()) == pytest.approx(float(value.detach()), rel=1e-4)


def test_more_classes_in_the_teacher_in_another_order(variant: str) -> None:
    """Columns of a class that the teacher does not know decide nothing, and neither do classes that the data lacks."""
    names = ("owl", "three", "one", "cat", "dog")
    _, teacher = pair_for(variant.split(maxsplit=1)[0], names)
    given = batch()
    found = taken(variant, teacher=teacher)
    assert not torch.stack(list(found.terms.values())).isnan().any()
    spoilt = {
        key: value.clone().index_fill_(-1, torch.tensor([1]), 9.0) if key == "logits" else value
        for key, value in found.knowledge.items()
    }
    again = found.method.terms(found.found.output, spoilt, given, moment())
    for key, value in found.terms.items():
        assert float(again[key]) == pytest.approx(float(value), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", [*ON_QUERIES, "kd_detr"])
def test_dense_teachers_are_refused_with_both_sides_named(name: str) -> None:
    yolo, rtdetr = opened("yolo11p").spec, opened("rtdetr-p").spec
    (reason, *_) = unmet(distiller_type(name).requires, pair_of(rtdetr, yolo, NAMES))
    assert "needs a query head on" in reason
    assert "student rtdetr-p has a query head, teacher yolo11p has a dense head" in reason


@pytest.mark.parametrize("name", [*ON_QUERIES, "kd_detr"])
def test_decoders_that_give_nothing_are_refused(name: str) -> None:
    specs = [opened(model).spec for model in ("rtdetr-p", "rtdetr-n")]
    mute = [replace(one, head=replace(one.head, gives=("class_logits", "boxes"))) for one in specs]  # type: ignore[type-var]
    pair = pair_of(mute[0], mute[1], NAMES)
    reasons = unmet(distiller_type(name).requires, pair)
    if not reasons:
        with pytest.raises(
            InputError, match=r"clockdistill: memory needs the encoder's memory .*; leave that part out"
        ):
            distiller_type(name)(distiller_type(name).config_type(), pair)
        return
    assert all("student rtdetr-p has no" in reason or "teacher rtdetr-n has no" in reason for reason in reasons)


def test_a_layer_that_there_is_not() -> None:
    with pytest.raises(
        Exception, match=r"qskd: layers: student rtdetr-p has decoder layers 0 to 2, given 1, 7; choose"
    ):
        made("qskd", student_of(), teacher_of(), layers=[1, 7])


def test_who_of_the_methods_takes_what() -> None:
    assert [name for name in distiller_names() if query_teacher in distiller_type(name).requires] == ["kd_detr"]
    assert {"clockdistill", "detrdistill", "dlim", "od_detr", "qskd"} <= set(ON_QUERIES)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("qskd", "prediction and features are both 0"),
        ("clockdistill", "memory and answers are both 0"),
        ("kd_detr", "general and specific are both 0"),
        ("od_detr", "matching, prediction and auxiliary are all 0"),
        ("detrdistill", "prediction, features and queries are all 0"),
    ],
)
def test_one_part_must_act(method: str, told: str) -> None:
    kind = distiller_type(method).config_type
    with pytest.raises(ValueError, match=f"{told}; leave one above 0"):
        kind(**dict.fromkeys(kind.at_least_one_of, 0))
    for acting in kind.at_least_one_of:
        kind(**{**dict.fromkeys(kind.at_least_one_of, 0), acting: 1})
