"""Schedules by hand, the registry, and the text of refusals."""

from __future__ import annotations

import math
import pickle
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from edgekd.detectors.spec import DenseHead, DetectionsHead, QueryHead, RegionHead
from edgekd.distill import requirements
from edgekd.distill.config import DistillerConfig, Schedule
from edgekd.distill.contract import Card, Distiller, Requirement, distiller_names, distiller_type, register
from edgekd.distill.frozen import Frozen
from edgekd.distill.points import SharedPoints
from edgekd.distill.requirements import dense_heads, dense_teacher, shared_classes, shared_points, unmet

from .helpers import pair_of, random_output, spec

CARD = Card(about="x", title="x", venue="x", level="neck")


class Demanding(DistillerConfig):
    """A key that every recipe would have to name."""

    tau: float


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
        ({"until_share": 0.4}, 39.999, 1.0),
        ({"until_share": 0.4}, 40, 0.0),
        ({"decay": "linear", "final": 0.0, "until_share": 0.4}, 20, 0.5),
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
    with pytest.raises(ValidationError, match="each say when it ends; keep one"):
        Schedule(until_epoch=3, until_share=0.5)


@pytest.mark.parametrize("bad", [{"tua": 1}, {"weight": -1}, {"weight": float("inf")}, {"weight": float("nan")}])
@pytest.mark.parametrize("name", distiller_names())
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


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"config_type": DistillerConfig}, "distiller 'mine' has no card; write card = Card"),
        ({"card": CARD}, "distiller 'mine' has no config_type; name a subclass of DistillerConfig"),
        ({"card": CARD, "config_type": dict}, "distiller 'mine' has no config_type"),
        ({"card": CARD, "config_type": Demanding}, "distiller 'mine' has keys without a valid default: tau"),
    ],
)
def test_a_method_that_could_not_be_listed_is_not_registered(members: dict[str, Any], fault: str) -> None:
    with pytest.raises(TypeError, match=fault):
        register("mine")(type("Mine", (Distiller,), members))
    assert "mine" not in distiller_names()


def of(name: str) -> tuple[Requirement, ...]:
    return distiller_type(name).requires


def test_ld_with_yolo26_is_refused() -> None:
    student = spec("yolo26n", bins=1, branches=("one2many", "one2one"))
    teacher = spec("yolo11x", bins=16)
    assert unmet(of("ld"), pair_of(student, teacher)) == [
        "needs a box distribution of equal bins on both sides; "
        "student yolo26n has reg_max=1, teacher yolo11x has reg_max=16"
    ]
    assert unmet(of("ld"), pair_of(student, student)) == [
        "needs a box distribution of equal bins on both sides; "
        "student yolo26n has reg_max=1, teacher yolo26n has reg_max=1"
    ]


def test_a_fitting_pair_has_no_unmet_requirement() -> None:
    """Two dense detectors with box distributions, which everything that acts on CNN detectors can serve."""
    for name in distiller_names():
        if distiller_type(name).card.level in ("backbone", "neck", "head"):
            assert unmet(of(name), pair_of(spec("yolo11n", towers=True), spec("yolo11x", towers=True))) == []


DETR = QueryHead(layers=6, queries=300, width=256)


@pytest.mark.parametrize(
    ("requirement", "changes", "reason"),
    [
        (
            dense_heads,
            {"head": DETR},
            "needs a dense head on both sides; student yolo11n has a dense head, teacher other has a query head",
        ),
        (
            dense_teacher,
            {"head": DETR},
            "needs a dense head on the teacher; student yolo11n has a dense head, teacher other has a query head",
        ),
        (
            shared_points,
            {"point_offset": 0.0},
            "needs the same points on both sides; student yolo11n has strides 8, 16 at offset 0.5, "
            "teacher other has strides 8, 16 at offset 0",
        ),
        (
            shared_points,
            {"anchors_per_cell": 9},
            "needs the same points on both sides; student yolo11n has strides 8, 16 at offset 0.5, "
            "teacher other has strides 8, 16 at offset 0.5, 9 anchors a cell",
        ),
        (
            shared_points,
            {"strides": (32, 64)},
            "needs the same points on both sides; student yolo11n has strides 8, 16 at offset 0.5, "
            "teacher other has strides 32, 64 at offset 0.5",
        ),
        (
            shared_classes,
            {"class_names": ("cat", "dog")},
            "needs a class that the teacher knows; the data has one, two, three, teacher other knows cat, dog",
        ),
    ],
)
def test_unmet_names_both_sides(requirement: Requirement, changes: dict[str, Any], reason: str) -> None:
    assert unmet((requirement,), pair_of(spec("yolo11n"), spec("other", **changes))) == [reason]


def test_every_reason_names_both_sides() -> None:
    """The student's side is the student, or the data whose classes it learns."""
    heads = (
        DenseHead((8, 16, 32), bins=16), DenseHead((8, 16), 0.0), DenseHead((64,), anchors_per_cell=9), DETR,
        QueryHead(layers=3, queries=5, width=8, strides=(8,), gives=("memory",)), RegionHead(4), DetectionsHead(),
        QueryHead(layers=3, queries=5, width=8, strides=(8,), gives=("embeddings",)),
    )  # fmt: skip
    asked = [
        one for name, one in vars(requirements).items() if signature_of(one) == {"pair": "Pair", "return": "str | None"}
    ]
    assert len(asked) > 15
    told = set()
    for ours, theirs, known in product(heads, heads, (("one", "two", "three"), ("one",), ("cat",))):
        pair = pair_of(spec("smaller", head=ours), spec("larger", head=theirs, class_names=known))
        for one in asked:
            if reason := one(pair):
                assert "larger" in reason and ("smaller" in reason or "the data has one, two, three" in reason), reason
                told.add(one)
    assert set(asked) - told == {requirements.lasting_teacher}, "which is of the student's own average"


def signature_of(member: object) -> dict[str, object]:
    return getattr(member, "__annotations__", {})


def test_all_reasons_are_told_at_once() -> None:
    teacher = spec("other", bins=1, point_offset=0.0, class_names=("cat",))
    assert [reason.split(";")[0] for reason in unmet(of("ld"), pair_of(spec(), teacher))] == [
        "needs a box distribution of equal bins on both sides",
        "needs the same points on both sides",
        "needs a class that the teacher knows",
    ]


def test_dense_teacher_serves_a_query_student() -> None:
    assert dense_teacher(pair_of(spec("rtdetr-l", head=DETR), spec())) is None


def test_one_class_that_the_teacher_knows_is_enough() -> None:
    assert shared_classes(pair_of(spec(), spec(class_names=(" Two ", "dog")))) is None


def test_classes_are_not_checked_where_the_data_was_not_opened() -> None:
    assert shared_classes(pair_of(spec(), spec(class_names=("dog",)), ())) is None


def test_heads_that_share_some_levels_are_compared_there() -> None:
    """P3 to P5 beside P4 to P7: rows of the two levels that both have, in the same order."""
    student, teacher = DenseHead((8, 16, 32)), DenseHead((16, 32, 64, 128))
    shared = SharedPoints.of(student, teacher)
    assert shared == SharedPoints((1, 2), (0, 1))
    ours, theirs = (
        random_output(spec(channels=(4,) * len(head.strides), strides=head.strides), size_px=128).dense["one2many"]
        for head in (student, teacher)
    )
    mine = shared.of_student(ours.points_px, ours, dim=0)
    assert torch.equal(mine, shared.of_teacher(theirs.points_px, theirs, dim=0))
    assert len(mine) == 8 * 8 + 4 * 4
    assert torch.equal(shared.of_student(ours.class_logits, ours), ours.class_logits[:, 256:])
    assert SharedPoints.of(student, student).of_student(ours.class_logits, ours) is ours.class_logits


def test_a_frozen_part_passes_gradients_and_stays_what_it_is() -> None:
    layer = nn.Conv2d(2, 3, 1)
    frozen = Frozen(layer)
    images = torch.rand(1, 2, 4, 4, requires_grad=True)
    frozen(images).sum().backward()
    assert torch.equal(images.grad, layer.weight.detach().sum(0).expand(1, 2, 1, 1).expand_as(images))  # type: ignore[arg-type]
    assert layer.weight.grad is None and layer.weight.requires_grad, "the teacher's own layer is left alone"
    holder = nn.Module()
    holder.part = frozen  # type: ignore[assignment]
    assert not list(holder.parameters()) and not holder.state_dict()
    assert deepcopy(holder).part is frozen
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(frozen)
