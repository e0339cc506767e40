"""`edgekd init`: what it writes runs, says why, and takes nobody's place."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekd.stages.binding import bind_recipe
from tests.stages.tiny import edgekd, weights

BCCD = Path(os.environ.get("EDGEKD_BCCD", "bccd"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_digits: Path) -> Path:
    """A data set in both layouts, and a teacher that knows its classes."""
    made = tmp_path_factory.mktemp("init")
    shutil.copytree(tiny_digits.parent, made / "set")
    weights(made / "teacher.safetensors", "yolo11n")
    return made


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("set", "teacher.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    return tmp_path


def first(*arguments: object, out: str = "first.yaml") -> tuple[dict[str, Any], str]:
    """The recipe, and its text."""
    ended = edgekd("init", *arguments, "--teacher", "teacher.safetensors", "--out", out, "--json")
    assert ended.code == 0, ended.err
    text = Path(out).read_text()
    assert yaml.safe_load(text) == ended.json["recipe"]
    assert shlex.split(ended.json["next"]) == ["edgekd", "run", out, "--out", f"runs/{Path(out).stem}"]
    return ended.json["recipe"], text


def test_of_a_data_yaml(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    recipe, text = first("set/data.yaml", out="of yaml.yaml")
    assert recipe["data"] == {"format": "yolo", "path": "set/data.yaml"}
    assert (recipe["teacher"], recipe["student"]) == ({"weights": "teacher.safetensors"}, {"model": "yolo11p"})
    assert [entry["method"] for entry in recipe["distill"]] == ["logit", "ld", "score_l2"]
    assert recipe["train"]["imgsz"] == 64
    assert recipe["export"] == ["onnx-fp32", "openvino-fp32"]
    assert (recipe["devices"], recipe["control"], recipe["gate"]) == (["local"], True, {"max_ap_drop": 0.005})
    bound = bind_recipe(Path("of yaml.yaml"))
    assert bound.recipe.name == "of-yaml"
    assert "edgekd run 'of yaml.yaml' --out 'runs/of yaml'" in text
    assert "`edgekd methods --for 'of yaml.yaml'`" in text
    assert "10 classes; 24 train, 8 val and 8 test images" in text
    assert "yolo11n, 2.6 M parameters, dense head; knows 10 of 10 classes" in text
    plain = {line.split(":")[0].strip() for line in text.splitlines() if ":" in line and "#" not in line}
    assert plain <= {"name", "data", "path", "weights", "train", "export", "gate"}, "every other line says why"
    assert max(map(len, text.splitlines())) <= 120
    again = edgekd("init", "set/data.yaml", "--teacher", "teacher.safetensors", "--out", "of yaml.yaml")
    assert (again.code, Path("of yaml.yaml").read_text()) == (2, text)
    assert again.problems == ["of yaml.yaml: is there already, and stays as it is; choose another name with --out"]


def test_of_a_coco_file_and_of_another_student(here: Path) -> None:
    recipe, _ = first("set/annotations/train.json", "--student", "yolov8n")
    whole = str((here / "set").resolve())
    assert recipe["data"] == {
        "format": "coco",
        **{split: {"images": f"{whole}/images/{split}", "annotations": f"{whole}/annotations/{split}.json"}
           for split in ("train", "val", "test")},
    }  # fmt: skip
    assert recipe["student"] == {"model": "yolov8n"}


def test_a_training_of_yolo_is_taken_over(here: Path) -> None:
    (here / "args.yaml").write_text(yaml.safe_dump({
        "task": "detect", "mode": "train", "model": "yolo11n.pt", "data": "set/data.yaml", "epochs": 7, "batch": 4,
        "imgsz": 96, "lr0": 0.01, "mosaic": 0.5, "single_cls": True, "plots": True, "mask_ratio": 4, "device": None,
    }))  # fmt: skip
    recipe, text = first("--from-yolo", "args.yaml")
    assert recipe["student"] == {"model": "yolo11n"}
    assert {key: recipe["train"][key] for key in ("epochs", "batch", "imgsz", "mosaic")} == {
        "epochs": 7, "batch": 4, "imgsz": 96, "mosaic": 0.5,
    }  # fmt: skip
    assert not {"lr0", "nbs"} & set(recipe["train"]), "the engine's default needs no saying"
    assert re.search(r"# left out: args.yaml: train.single_cls: would train on other data", text)
    assert "mask_ratio" not in text


def test_faulty_labels_get_the_strictest_treatment_that_lets_them_through(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "set", tmp_path / "set")
    label = next((tmp_path / "set" / "labels" / "train").glob("*.txt"))
    label.write_text("0 0.98 0.5 0.1 0.1\n")
    ended = edgekd(
        "init", tmp_path / "set", "--teacher", folder / "teacher.safetensors", "--out", tmp_path / "a.yaml", "--json"
    )
    assert ended.json["recipe"]["data"] == {"format": "yolo", "path": "set/data.yaml", "on_problem": "clip"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.yaml"], "none.yaml: no such file; give a data.yaml, a COCO JSON of the train split, or 'digits'"),
        (["set/images"], "set/images: is a folder without a data.yaml"),
        ([], "init: give a data.yaml, a COCO JSON of the train split, 'digits', or --from-yolo args.yaml"),
        (["set/data.yaml", "--device", "loca"], "did you mean 'local'?"),
        (["set/annotations/val.json"], "no annotations of a val split beside it"),
        (["set/data.yaml", "--student", "yolo11q"], "student.model: unknown scale 'q'"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(here: Path, arguments: list[str], said: str) -> None:
    ended = edgekd("init", *arguments, "--teacher", "teacher.safetensors", "--out", "a.yaml")
    assert ended.code == 2
    assert said in " ".join(ended.problems)
    assert not Path("a.yaml").exists()


def test_without_a_teacher_that_knows_the_classes_nothing_is_written(here: Path) -> None:
    weights(here / "other.safetensors", "yolo11n", names=("cat", "dog"))
    ended = edgekd("init", "set/data.yaml", "--teacher", "other.safetensors", "--out", "a.yaml")
    assert "knows none of the classes of the data" in ended.problems[0]
    assert not Path("a.yaml").exists()
    assert "--teacher none.pt: no such file" in edgekd("init", "digits", "--teacher", "none.pt").problems[0]


@pytest.mark.slow
@pytest.mark.skipif(not BCCD.is_dir(), reason="EDGEKD_BCCD names no folder of photographs of blood cells")
def test_of_real_photographs(tmp_path: Path) -> None:
    weights(tmp_path / "cells.safetensors", "yolo11s", names=("RBC", "WBC", "Platelets"))
    ended = edgekd(
        "init", BCCD / "data.yaml", "--teacher", tmp_path / "cells.safetensors", "--out", tmp_path / "a.yaml", "--json"
    )
    recipe = ended.json["recipe"]
    assert recipe["data"]["path"] == str((BCCD / "data.yaml").resolve())
    assert recipe["student"] == {"model": "yolo11n"}
    assert recipe["train"]["imgsz"] in (320, 640)
