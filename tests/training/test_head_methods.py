"""Head methods on real networks: YOLO11, YOLO26 and RTMDet, in steps that are not plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors.rtmdet.detector import RTMDetDetector
from edgekd.training.distillation import DistillationModule
from edgekd.training.distillers import build_distillers
from edgekd.training.teacher import EmaTeacher, Teacher
from tests.detectors.rtmdet.networks import lively, network
from tests.training.helpers import SAME_CLASSES, detector, methods, teacher
from tests.training.steps import Step, batch_of, module_of, step

HEAD: dict[str, dict[str, Any]] = {
    "kdhl": {}, "dkd": {}, "bckd": {}, "solad": {}, "rank_mimicking": {}, "pfi": {"weight": 1.0}, "dyolo": {},
    "tad": {}, "aba": {}, "crosskd": {}, "ld": {"valuable": 0.25},
}  # fmt: skip
TERMS = {
    "kdhl": ("class", "box"), "dkd": ("target", "others"), "bckd": ("class", "box"), "solad": ("class", "box"),
    "rank_mimicking": ("rank",), "pfi": ("feature",), "dyolo": ("class", "box"), "tad": ("feature", "class", "box"),
    "aba": ("box",), "crosskd": ("class", "box"), "ld": ("box", "valuable"),
}  # fmt: skip


@pytest.fixture(scope="module")
def batch(tiny_digits: Path) -> dict[str, Tensor]:
    return batch_of(tiny_digits)


@pytest.fixture(scope="module")
def plain(batch: dict[str, Tensor]) -> Step:
    return step(module_of(HEAD), batch)


def kd(found: Step) -> dict[str, float]:
    return {name: value.item() for name, value in found.terms.items() if name.startswith("kd/")}


def test_all_in_one_recipe_teach_at_once(plain: Step) -> None:
    assert set(kd(plain)) == {f"kd/{name}.{term}" for name, terms in TERMS.items() for term in terms}
    assert all(value > 0 for value in kd(plain).values())
    assert all(gradient.isfinite().all() for gradient in plain.gradients.values())


def test_values_survive_bfloat16(plain: Step, batch: dict[str, Tensor]) -> None:
    """Who is positive hangs on predictions, so terms of positives move more than others."""
    found = kd(step(module_of(HEAD), batch, amp=torch.bfloat16))
    assert {name: found[name] for name in found} == {name: pytest.approx(kd(plain)[name], rel=0.1) for name in found}


@pytest.mark.parametrize("size", [(64, 96), (96, 32)])
def test_images_that_are_not_square(size: tuple[int, int], batch: dict[str, Tensor]) -> None:
    other = {**batch, "img": torch.nn.functional.interpolate(batch["img"], size)}
    found = step(module_of(HEAD), other)
    assert found.total.isfinite() and all(gradient.isfinite().all() for gradient in found.gradients.values())


def test_a_batch_without_any_object(batch: dict[str, Tensor]) -> None:
    none = {"cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4), "batch_idx": torch.zeros(0, dtype=torch.int64)}
    found = step(module_of(HEAD), {**batch, **none})
    assert found.total.isfinite() and all(gradient.isfinite().all() for gradient in found.gradients.values())
    of_objects = {"kd/dkd.target", "kd/aba.box", "kd/kdhl.box", "kd/rank_mimicking.rank", "kd/ld.valuable"}
    assert all(kd(found)[name] == 0 for name in of_objects)


@pytest.mark.parametrize("other", ["yolo26n", "yolo26p"])
def test_yolo26_learns_in_both_branches(other: str, batch: dict[str, Tensor]) -> None:
    """From a wider one, and from one of its own width, whose towers need no adapter."""
    from ultralytics.cfg import get_cfg

    student, tutor = detector("yolo26p"), teacher(other)
    student.module.args = get_cfg()
    student.module.requires_grad_(True)
    chosen = {name: keys for name, keys in HEAD.items() if name != "ld"}
    parts = build_distillers(methods(**chosen), student.spec, {"teacher": tutor})
    module = DistillationModule(student, student.module, parts, [tutor] * len(parts), epochs=1, seed=0)
    found = step(module.train(), batch)
    assert found.total.isfinite() and all(value >= 0 for value in kd(found).values())
    for tower in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
        reached = [name for name in found.gradients if f".{tower}.0.0." in name]
        assert reached and all(found.gradients[name].abs().sum() > 0 for name in reached)
    adapters = [name for name in found.gradients if "towers" in name]
    assert bool(adapters) == (other == "yolo26n")


def lad(**keys: Any) -> DistillationModule:
    return module_of({"lad": keys})


@pytest.mark.parametrize("keys", [{}, {"weight": "auto"}], ids=["plain", "auto"])
def test_lad_changes_the_students_own_loss_and_adds_nothing(keys: dict[str, Any], batch: dict[str, Tensor]) -> None:
    guided, own = lad(**keys), module_of({"logit": {"weight": 0.0}})
    loss, items = guided(batch)
    plain, _ = own(batch)
    assert loss.shape == plain.shape and loss[-1] == 0 and not [name for name in items if name.startswith("kd/")]
    assert not torch.allclose(loss[:-1], plain[:-1], rtol=1e-3)
    assert guided.balance.report()["terms"][0]["share"] == 1.0


def test_lad_hands_the_decision_back(batch: dict[str, Tensor]) -> None:
    ended, own = lad(schedule={"until_epoch": 0.5}), module_of({"logit": {"weight": 0.0}})
    ended.steps_per_epoch = own.steps_per_epoch = 2
    losses = [[module(batch)[0][:-1].detach() for _ in range(2)] for module in (ended, own)]
    assert not torch.allclose(losses[0][0], losses[1][0], rtol=1e-3)
    assert torch.equal(losses[0][1], losses[1][1]), "the student's own from half an epoch on"


def test_crosskd_needs_a_teacher_that_stays(tiny_digits: Path) -> None:
    """The student's average has no part that could be taken; `check` says so before (test_models)."""
    student = detector("yolo11p")
    with pytest.raises(RuntimeError, match="no teacher network to take a part of"):
        build_distillers(methods(crosskd={"teacher": "ema"}), student.spec, {"ema": EmaTeacher(student.spec)})


def test_rtmdet_learns_from_a_wider_one(batch: dict[str, Tensor]) -> None:
    """Points at the corners of cells, no distribution, towers that are cut at two places."""
    student = RTMDetDetector(network("p", CLASS_NAMES), "rtmdet-p")
    wider = network("tiny", CLASS_NAMES)
    lively(wider, seed=5)
    tutor = Teacher(RTMDetDetector(wider, "rtmdet-tiny").frozen(), SAME_CLASSES)
    chosen = {name: keys for name, keys in HEAD.items() if name != "ld"}
    parts = build_distillers(methods(**chosen), student.spec, {"teacher": tutor})
    student.module.requires_grad_(True)
    module = DistillationModule(student, student.module, parts, [tutor] * len(parts), epochs=1, seed=0)
    found = step(module.train(), batch)
    assert set(kd(found)) == {f"kd/{name}.{term}" for name in chosen for term in TERMS[name]}
    assert all(0 <= value < float("inf") for value in kd(found).values())
    assert sum(value > 0 for value in kd(found).values()) >= len(kd(found)) - 2  # its boxes may all be the worse ones
