"""Schedules by hand, the registry, and the text of refusals."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from edgekd.detectors.class_matching import match_classes
from edgekd.distill.contract import (
    Distiller,
    DistillerConfig,
    Requires,
    Schedule,
    distiller_names,
    distiller_type,
    register,
    unmet,
)

from .helpers import CLASSES, spec, taps


@pytest.mark.parametrize(
    ("schedule", "epoch", "factor"),
    [
        ({}, 0, 1.0),
        ({}, 99, 1.0),
        ({"warmup_epochs": 4}, 0, 0.0),
        ({"warmup_epochs": 4}, 1, 0.25),
        ({"warmup_epochs": 4}, 4, 1.0),
        ({"decay": "linear", "final": 0.2}, 0, 1.0),
        ({"decay": "linear", "final": 0.2}, 25, 0.8),
        ({"decay": "linear", "final": 0.2}, 100, 0.2),
        ({"decay": "linear", "final": 0.2, "warmup_epochs": 20}, 60, 0.6),
        ({"decay": "cosine"}, 50, 0.55),
        ({"decay": "cosine"}, 25, 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2),
        ({"decay": "cosine", "final": 0.0, "until_epoch": 40}, 20, 0.5),
        ({"until_epoch": 40}, 39.999, 1.0),
        ({"until_epoch": 40}, 40, 0.0),
        ({"until_epoch": 200}, 100, 1.0),
        ({"decay": "linear", "final": 0.3, "until_epoch": 200}, 100, 0.3),
        ({"warmup_epochs": 200}, 50, 0.25),
    ],
)
def test_schedule_factor_by_hand(schedule: dict[str, object], epoch: float, factor: float) -> None:
    assert Schedule.model_validate(schedule).factor(epoch, epochs=100) == pytest.approx(factor, abs=1e-9)


def test_schedule_equals_damo_yolo_cosine() -> None:
    """DAMO-YOLO's w(t) = 1 - 0.45 (1 - cos(pi t / T)) is the default cosine."""
    schedule = Schedule(decay="cosine")
    for epoch in range(30):
        assert schedule.factor(epoch, 30) == pytest.approx(1 - 0.45 * (1 - math.cos(math.pi * epoch / 30)))


def test_schedule_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValidationError, match="until_epoch=3 ends before warmup_epochs=5 is over"):
        Schedule(warmup_epochs=5, until_epoch=3)


@pytest.mark.parametrize("bad", [{"tua": 1}, {"weight": -1}, {"weight": float("inf")}, {"weight": float("nan")}])
@pytest.mark.parametrize("name", ["cwd", "fitnet", "ld", "logit", "pkd", "score_l2"])
def test_configs_are_strict(name: str, bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        distiller_type(name).config_type.model_validate(bad)


def test_configs_are_frozen_and_have_the_published_weights() -> None:
    defaults = {name: distiller_type(name).config_type().weight for name in distiller_names()}
    expected = {"cwd": 10.0, "fitnet": 1.0, "ld": 1.0, "logit": 0.5, "pkd": 10.0, "score_l2": 6.0}
    assert {name: defaults[name] for name in expected} == expected
    with pytest.raises(ValidationError, match="frozen"):
        distiller_type("cwd").config_type().weight = 2.0


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(KeyError) as caught:
        distiller_type("fitnett")
    text = caught.value.args[0]
    assert text.startswith("unknown method 'fitnett' (known: ")
    assert text.endswith("; did you mean 'fitnet'?)")
    assert all(name in text for name in distiller_names())


def test_second_registration_raises_and_changes_nothing() -> None:
    first = distiller_type("fitnet")
    with pytest.raises(ValueError, match="distiller 'fitnet' is registered twice"):

        @register("fitnet")
        class Impostor(Distiller):
            config_type = DistillerConfig

    assert distiller_type("fitnet") is first


def test_ld_with_yolo26_is_refused() -> None:
    student = spec("yolo26n", box_form="distance", reg_max=1, branches=("one2many", "one2one"))
    teacher = spec("yolo11x", reg_max=16)
    assert unmet(distiller_type("ld").requires, student, teacher, ()) == [
        "needs a box distribution of equal bins on both sides; "
        "student yolo26n has reg_max=1, teacher yolo11x has reg_max=16"
    ]
    both = unmet(distiller_type("ld").requires, student, student, ())
    assert both == [
        "needs a box distribution of equal bins on both sides; "
        "student yolo26n has reg_max=1, teacher yolo26n has reg_max=1"
    ]


def test_a_fitting_pair_has_no_unmet_requirement() -> None:
    for name in distiller_names():
        assert (
            unmet(distiller_type(name).requires, spec("yolo11n"), spec("yolo11x"), match_classes(CLASSES, CLASSES))
            == []
        )


@pytest.mark.parametrize(
    ("requires", "changes", "reason"),
    [
        (
            Requires(dense=True),
            {"head_kind": "query"},
            "needs a dense head on both sides; student yolo11n has a dense head, teacher other has a query head",
        ),
        (
            Requires(dense_teacher=True),
            {"head_kind": "query"},
            "needs a dense head on the teacher; student yolo11n has a dense head, teacher other has a query head",
        ),
        (
            Requires(same_points=True),
            {"point_offset": 0.0},
            "needs the same points on both sides; student yolo11n has strides 8, 16 at offset 0.5, "
            "teacher other has strides 8, 16 at offset 0",
        ),
        (
            Requires(same_points=True),
            {"taps": taps("neck", (4, 4, 4), (8, 16, 32))},
            "needs the same points on both sides; student yolo11n has strides 8, 16 at offset 0.5, "
            "teacher other has strides 8, 16, 32 at offset 0.5",
        ),
        (
            Requires(shared_classes=True),
            {"class_names": ("cat", "dog")},
            "needs a class that the teacher knows; the data has one, two, three, teacher other knows cat, dog",
        ),
    ],
)
def test_unmet_names_both_sides(requires: Requires, changes: dict[str, object], reason: str) -> None:
    teacher = spec("other", **changes)
    assert unmet(requires, spec("yolo11n"), teacher, match_classes(teacher.class_names, CLASSES)) == [reason]


def test_dense_teacher_serves_a_query_student() -> None:
    assert unmet(Requires(dense_teacher=True), spec("rtdetr-l", head_kind="query"), spec(), ()) == []


def test_one_class_that_the_teacher_knows_is_enough() -> None:
    teacher = spec(class_names=(" Two ", "dog"))
    assert unmet(Requires(shared_classes=True), spec(), teacher, match_classes(teacher.class_names, CLASSES)) == []


def test_classes_are_not_checked_where_the_data_was_not_opened() -> None:
    assert unmet(Requires(shared_classes=True), spec(), spec(class_names=("dog",)), ()) == []
