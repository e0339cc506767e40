"""Preparations are stages: done once for a teacher, a data set and what of the method decides them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import edgekd as edgekd_package
from edgekd.detectors import described
from edgekd.distill import contract
from tests.stages.tiny import edgekd, weights, write_recipe
from tests.training.absorbing import Absorbing


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Absorbing, "name", "absorbing", raising=False)
    contract.distiller_names()  # the built-in ones first
    monkeypatch.setitem(contract._REGISTRY, "absorbing", Absorbing)


def pair(folder: Path) -> None:
    weights(folder / "teacher.safetensors", "yolo11n")
    weights(folder / "student.safetensors", "yolo11p")


def test_done_once(tmp_path: Path) -> None:
    pair(tmp_path)
    recipe = write_recipe(tmp_path / "tiny.yaml", distill=["absorbing"], control=False, export=[], gate=None)
    left = tmp_path / "run" / "prepare" / "absorbing" / "prepared.safetensors"

    def kept(command: str, *options: str) -> list[str]:
        ended = edgekd(command, recipe, "--out", tmp_path / "run", *options)
        assert ended.code == 0, ended.err
        return [name for name in ended.kept if name in ("prepare/absorbing", "student")]

    assert kept("prepare") == []
    first = left.read_bytes()
    assert kept("distill") == ["prepare/absorbing"]
    assert kept("distill") == ["prepare/absorbing", "student"]
    assert kept("prepare", "--set", "distill=[{method: absorbing, weight: 2}]") == ["prepare/absorbing"]
    assert kept("distill", "--set", "distill=[{method: absorbing, epochs: 1}]") == []
    assert left.read_bytes() != first
    assert sorted(path.name for path in left.parent.iterdir()) == [
        "epochs.csv",
        "prepared.safetensors",
        "training.json",
    ]


def test_not_while_quantising(tmp_path: Path) -> None:
    pair(tmp_path)
    recipe = write_recipe(
        tmp_path / "tiny.yaml", quantize={"mode": "qat", "teacher": "teacher", "distill": ["absorbing"]}
    )
    ended = edgekd("check", recipe)
    assert ended.code == 2
    assert ended.problems == [
        f"{recipe}: quantize.distill[0]: absorbing has a preparation, which this section does not do; use another "
        "method"
    ]


UNIKD = {"method": "unikd", "queries": 6, "width": 16, "absorb_epochs": 1}


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has only prepared."""
    folder = tmp_path_factory.mktemp("prepared")
    pair(folder)
    recipe = write_recipe(folder / "tiny.yaml", distill=[UNIKD], control=False, export=[], gate=None)
    ended = edgekd("prepare", recipe, "--out", folder / "run")
    assert ended.code == 0, ended.err
    assert "unikd" in ended.out and "teacher" in ended.out
    return folder


def test_prepared_alone(left: Path) -> None:
    """Its AP stands beside the teacher's; nothing of a student is there."""
    run = left / "run"
    metrics = json.loads((run / "prepare" / "unikd" / "metrics.json").read_text())
    teacher = json.loads((run / "teacher" / "teacher.json").read_text())
    assert metrics["teacher_ap"] == teacher["ap"]
    assert 0 <= metrics["ap"] <= 1
    manifest = json.loads((run / "manifest.json").read_text())
    assert list(manifest["stages"]) == ["data", "teacher", "prepare/unikd", "accuracy/prepare/unikd"]
    header = described.header_of(run / "prepare" / "unikd" / "prepared.safetensors")
    assert header is not None and header["method"] == "unikd" and header["config"]["queries"] == 6
    shown = edgekd("prepare", left / "tiny.yaml", "--out", run, "--json")
    assert shown.kept == ["data", "teacher", "prepare/unikd", "accuracy/prepare/unikd"]
    (row,) = shown.json
    assert row["method"] == "unikd" and row["ap"] == metrics["ap"]


def test_a_file_of_another_run_is_taken(left: Path, tmp_path: Path) -> None:
    pair(tmp_path)
    file = left / "run" / "prepare" / "unikd" / "prepared.safetensors"
    shutil.copy(file, tmp_path / "extractors.safetensors")
    named = {**UNIKD, "prepared": "extractors.safetensors", "content": 5, "adapter_layers": 1}
    recipe = write_recipe(tmp_path / "tiny.yaml", distill=[named], control=False, export=[], gate=None)
    ended = edgekd("prepare", recipe, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    taken = tmp_path / "run" / "prepare" / "unikd"
    assert (taken / "prepared.safetensors").read_bytes() == file.read_bytes()
    assert not (taken / "epochs.csv").exists()  # nothing was trained
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (taken, file.parent)]
    assert metrics[0] == metrics[1]


def test_a_file_of_another_teacher_and_other_keys_is_refused_before_anything_is_done(
    left: Path, tmp_path: Path
) -> None:
    weights(tmp_path / "teacher.safetensors", "yolo11n", spread=3.0)
    weights(tmp_path / "student.safetensors", "yolo11p")
    file = left / "run" / "prepare" / "unikd" / "prepared.safetensors"
    method = {**UNIKD, "prepared": str(file), "queries": 8}
    recipe = write_recipe(tmp_path / "tiny.yaml", distill=[method], control=False, export=[], gate=None)
    for command in (("check", recipe), ("distill", recipe, "--out", tmp_path / "run")):
        ended = edgekd(*command)
        assert ended.code == 2
        (problem,) = [line for line in ended.problems if "prepared" in line]
        assert re.fullmatch(
            re.escape(f"{recipe}: distill[0].prepared: {file}: was prepared for teacher yolo11n (")
            + r"[0-9a-f]{12}\), here it is yolo11n \([0-9a-f]{12}\); queries: 6, here it is 8; name another file, "
            "or leave the key out: unikd is then prepared here",
            problem,
        )
    assert not (tmp_path / "run" / "control").exists()


def test_nothing_to_prepare(tmp_path: Path) -> None:
    pair(tmp_path)
    recipe = write_recipe(tmp_path / "tiny.yaml", distill=["cwd"], control=False, export=[], gate=None)
    ended = edgekd("prepare", recipe, "--out", tmp_path / "run")
    assert ended.code == 2
    (problem,) = ended.problems
    assert problem.startswith(f"{recipe}: distill: no method here has a preparation; of those that there are: ")


def test_from_python(left: Path) -> None:
    run = edgekd_package.prepare(left / "tiny.yaml", left / "run", quiet=True)
    assert run.path == left / "run"
