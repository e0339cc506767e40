"""Schedules that never come to act are told before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.distill.config import DistillerConfig, Schedule
from edgekd.distill.contract import distiller_names, distiller_type
from edgekd.errors import InputError
from edgekd.stages.binding import bind_recipe
from edgekd.stages.schedules import in_the_warm_up, never_full
from tests.stages.tiny import edgekd, write_recipe


def method(name: str = "logit", **schedule: Any) -> tuple[str, DistillerConfig]:
    assert name in distiller_names()
    return name, distiller_type(name).config_type(schedule=Schedule(**schedule))


@pytest.mark.parametrize(
    ("warm_up", "epochs", "told"),
    [(2.9, 3, False), (3, 3, True), (5, 3, True), (99, None, False), (100, None, True), (5, "many", False),
     (1, True, False)],
)  # fmt: skip
def test_a_weight_that_never_rises_to_its_value(warm_up: float, epochs: Any, told: bool) -> None:
    """Without `epochs`, the engine trains 100."""
    problems = never_full([method(), None, method("cwd", warmup_epochs=warm_up)], epochs, "r.yaml", "distill")
    shown = 100 if epochs is None else epochs
    text = (
        f"r.yaml: distill[2].schedule.warmup_epochs: got {warm_up:g}, but the training has {shown} epochs: the weight "
        f"never rises to what it is set to; write less than {shown}, or train longer"
    )
    assert problems == ([text] if told else [])


@pytest.mark.parametrize(
    ("until", "train", "told"),
    [(3, {}, True), (3.1, {}, False), (2, {"warmup_epochs": 1.0}, False), (1, {"warmup_epochs": 1}, True),
     (3, {"epochs": 3}, False), (2, {"epochs": 3}, True), (3, {"warmup_epochs": 0.0}, False)],
)  # fmt: skip
def test_a_method_that_acts_in_the_warm_up_alone(until: float, train: dict[str, Any], told: bool) -> None:
    """Without `warmup_epochs`, the engine takes 3; it leaves at least the last epoch."""
    found = list(in_the_warm_up([method(until_epoch=until), method("cwd")], train))
    assert len(found) == told
    if told:
        assert found[0].startswith(
            f"distill[0]: logit acts until epoch {until:g}, while the learning rate still warms up"
        )
        assert found[0].endswith("it hardly teaches anything; choose a later until_epoch")


def test_a_recipe_is_refused_with_both_sections(tmp_path: Path) -> None:
    late = [{"method": "logit", "schedule": {"warmup_epochs": 4}}]
    recipe = write_recipe(tmp_path / "r.yaml", distill=late, quantize={"mode": "qat", "epochs": 4, "distill": late})
    with pytest.raises(InputError) as caught:
        bind_recipe(recipe)
    assert [problem.split(":")[1] for problem in caught.value.problems] == [
        " distill[0].schedule.warmup_epochs", " quantize.distill[0].schedule.warmup_epochs",
    ]  # fmt: skip


def test_check_warns(tmp_path: Path) -> None:
    short = [{"method": "logit", "schedule": {"until_epoch": 2}}]
    recipe = write_recipe(tmp_path / "r.yaml", distill=short, train={"imgsz": 64, "epochs": 10})
    ended = edgekd("check", recipe, "--architecture-only", "--json")
    assert ended.json["warnings"] == [
        "distill[0]: logit acts until epoch 2, while the learning rate still warms up (train.warmup_epochs: 3): it "
        "hardly teaches anything; choose a later until_epoch"
    ]
