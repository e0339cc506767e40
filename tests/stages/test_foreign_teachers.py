"""Teachers of another library than the student's: what `check` says of a pair, and a step of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors.torchvision.build import build as network
from tests.stages.tiny import edgekd, write_recipe

MAPS = ("pkd", "fitnet", "mimic")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


def recipe(folder: Path, teacher: str, methods: tuple[str, ...]) -> Path:
    torch.manual_seed(0)
    torch.save(network(teacher, len(CLASS_NAMES) + 1).state_dict(), folder / "teacher.pth")
    (folder / "teacher.json").write_text(json.dumps({"classes": list(CLASS_NAMES)}))
    return write_recipe(
        folder / "tiny.yaml",
        teacher={"model": teacher, "weights": "teacher.pth"},
        student={"model": "yolo11p"},
        distill=[{"method": method} for method in methods],
    )


@pytest.mark.parametrize("teacher", ["retinanet-p", "fcos-p", "fasterrcnn-p"])
def test_a_step_of_the_methods_that_read_maps(teacher: str, folder: Path) -> None:
    ended = edgekd("check", recipe(folder, teacher, MAPS), "--dry-step", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert (found["teacher"]["family"], found["teacher"]["name"]) == ("torchvision", teacher)
    assert found["teacher"]["head_kind"] == ("region" if teacher == "fasterrcnn-p" else "dense")
    terms = {term["term"].partition(".")[0]: term for term in found["dry_step"]["terms"]}
    assert set(terms) == {"detection", *MAPS}
    assert all(term["gradient_norm"] > 0 for term in terms.values())


def test_methods_that_cannot_serve_say_why(folder: Path) -> None:
    ended = edgekd("check", recipe(folder, "fcos-p", ("logit",)))
    assert ended.code == 2
    assert ended.problems[0].endswith(
        "distill[0]: logit needs the same points on both sides; student yolo11p has strides 8, 16, 32 at offset 0.5, "
        "teacher fcos-p has strides 8, 16, 32 at offset 0"
    )
    ended = edgekd("check", recipe(folder, "fasterrcnn-p", ("gid",)))
    assert ended.code == 2
    assert "gid needs a dense head on both sides" in ended.problems[0]


def test_a_step_of_methods_whose_regions_a_second_stage_proposes(folder: Path) -> None:
    changes = ("distill.0.regions=teacher", "distill.1.min_confidence=0", "distill.2.min_confidence=0")
    options = [word for change in changes for word in ("--set", change)]
    path = recipe(folder, "fasterrcnn-p", ("mimic", "dsig", "gdetkd"))
    ended = edgekd("check", path, "--dry-step", "--json", *options)
    assert ended.code == 0, ended.err
    terms = {term["term"]: term for term in ended.json["dry_step"]["terms"]}
    learnt = ("mimic.feature", "dsig.foreground", "dsig.background", "gdetkd.imitation", "gdetkd.contrast")
    assert all(terms[name]["gradient_norm"] > 0 for name in learnt)
