"""Which maps and which parts of the heads methods read, and what state they keep."""

from __future__ import annotations

import pytest

from edgekd.distill.contract import distiller_names, distiller_type

from .helpers import build, random_output, spec, terms

STUDENT = spec("small", (4, 6), towers=True)
TEACHER = spec("large", (5, 6), towers=True)  # wider on one level only
FEATURE_METHODS = [name for name in distiller_names() if distiller_type(name).card.level in ("backbone", "neck")]
STAGES = spec("small", (4, 6), backbone=(3, 5)), spec("large", (5, 6), backbone=(8, 5))


@pytest.mark.parametrize("name", ["cskd", "cwd", "defeat", "fgd", "fgfi", "fitnet", "pkd", "ssim"])
def test_feature_methods_do_not_run_the_teachers_heads(name: str) -> None:
    assert build(name, STUDENT, TEACHER).wiring.teacher.head == frozenset()


def test_heads_that_methods_need() -> None:
    assert build("score_l2", STUDENT, TEACHER).wiring.teacher.head == {"class_logits"}
    assert build("logit", STUDENT, TEACHER).wiring.teacher.head == {"class_logits"}
    assert build("ld", STUDENT, TEACHER).wiring.teacher.head == {"class_logits", "boxes"}


@pytest.mark.parametrize("name", FEATURE_METHODS)
def test_feature_methods_take_stages_of_the_backbone(name: str) -> None:
    """`taps: backbone` reads them on both sides, and the neck no more."""
    method = build(name, *STAGES, taps="backbone")
    assert [tap.key for tap in method.wiring.student.taps] == ["backbone.8", "backbone.16"]
    assert [tap.key for tap in method.wiring.teacher.taps] == ["backbone.8", "backbone.16"]
    student, teacher = (random_output(side, seed=seed) for seed, side in enumerate(STAGES))
    sum(terms(method, student, teacher).values()).backward()  # type: ignore[union-attr]
    touched = {key for key, tap in student.taps.items() if tap.grad is not None and tap.grad.abs().sum() > 0}
    assert touched and touched <= {"backbone.8", "backbone.16"}


@pytest.mark.parametrize("name", FEATURE_METHODS)
def test_the_neck_may_learn_from_the_backbone(name: str) -> None:
    """Taps of both sides are chosen apart from each other."""
    method = build(name, *STAGES, teacher_taps="backbone")
    assert [tap.key for tap in method.wiring.student.taps] == ["neck.8", "neck.16"]
    assert [tap.key for tap in method.wiring.teacher.taps] == ["backbone.8", "backbone.16"]
    student, teacher = (random_output(side, seed=seed) for seed, side in enumerate(STAGES))
    assert all(value.isfinite() for value in terms(method, student, teacher).values())


def test_adapters_are_the_only_state() -> None:
    assert list(build("pkd", STUDENT, TEACHER).state_dict()) == ["levels.adapters.0.weight"]  # level 16: equal widths
    assert list(build("cwd", STUDENT, TEACHER, normalise="channel").state_dict()) == [
        "levels.adapters.0.weight",
        "levels.adapters.1.weight",
    ]
    assert not build("logit", STUDENT, TEACHER).state_dict()
