"""RTMDet in the engine's loop: a family with a network and losses of its own is trained, stopped and gone on with."""

from __future__ import annotations

import csv
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors import families
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Asked
from edgekd.detectors.rtmdet.checkpoint import FILES
from edgekd.detectors.rtmdet.detector import RTMDetDetector
from edgekd.errors import Interrupted
from edgekd.training.fit import fit
from edgekd.training.plan import FitPlan
from edgekd.training.resume import FILE, Resume
from edgekd.training.teacher import Teacher
from tests.detectors.rtmdet.networks import network
from tests.training import helpers
from tests.training.helpers import methods

DEFAULTS = families.family("rtmdet").train_defaults


def plan(data: Path, **train: Any) -> FitPlan:
    """RTMDet's own defaults; the student starts from weights whose boxes have an extent."""
    defaults = {key: value for key, value in DEFAULTS.items() if key not in ("mosaic", "mixup", "close_mosaic")}
    made = helpers.plan(data, distillers=methods(pkd={}, logit={}), **{**defaults, **train})
    return replace(
        made, student=RTMDetDetector(network(classes=CLASS_NAMES), "rtmdet-p"), initialised=True, head="one2many"
    )


def teachers() -> dict[str, Teacher]:
    teacher = RTMDetDetector(network("p", CLASS_NAMES, exponential=True), "rtmdet-p").frozen()
    return {"teacher": Teacher(teacher, ClassMap.identity(len(CLASS_NAMES)))}


def test_stopped_it_ends_as_the_uninterrupted_one(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit(plan(tiny_digits, epochs=2), teachers(), whole, "distilling")
    original, calls = Resume._before_batch, iter(range(1_000_000))

    def before_batch(self: Resume, trainer: Any) -> None:
        if next(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer)

    with monkeypatch.context() as patched:
        patched.setattr(Resume, "_before_batch", before_batch)
        with pytest.raises(Interrupted):
            fit(plan(tiny_digits, epochs=2), teachers(), stopped, "distilling", Resume(stopped / FILE, {}, 60))
    fit(plan(tiny_digits, epochs=2), teachers(), stopped, "distilling", Resume(stopped / FILE, {}, 60))
    assert (stopped / FILES[0]).read_bytes() == (whole / FILES[0]).read_bytes()
    assert (stopped / "terms.csv").read_text() == (whole / "terms.csv").read_text()
    found = families.open_detector("rtmdet", Asked("rtmdet-p", whole / FILES[0], (), 3, "student"))
    assert found.spec.class_names == CLASS_NAMES
    before = network(classes=CLASS_NAMES).state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in found.module.state_dict().items())
    first, second = csv.DictReader((whole / "epochs.csv").open())
    assert {"box_loss", "cls_loss", "val_cls_loss", "ap", "lr"} <= set(first)
    assert float(second["box_loss"]) > 0
    terms = {row["term"] for row in csv.DictReader((whole / "terms.csv").open())}
    assert terms == {"detection", "pkd.feature", "logit.class"}
