"""Images without labels, from the recipe to the student's training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekd.data.digits import generate
from edgekd.run_dir import RunDir
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context
from edgekd.stages.train import Trained, fit_plan
from tests.stages.tiny import edgekd, read, weights, write_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unlabelled")
    weights(folder / "teacher.safetensors", "yolo11n")
    generate(folder / "more", imgsz=64, train=8, val=1, test=1, seed=3)
    data = {"format": "digits", "imgsz": 64, "train": 8, "val": 8, "test": 8, "unlabelled": "more/images/train"}
    student = {"model": "yolo11p"}
    return write_recipe(folder / "tiny.yaml", data=data, student=student, distill=["logit"], export=[], gate={})


def context_of(recipe: Path, run: Path, *overrides: str) -> Context:
    return Context(bind_recipe(recipe, overrides), RunDir.existing(run))


@pytest.mark.slow
def test_methods_alone_act_on_them(recipe: Path) -> None:
    run = recipe.parent / "plain"
    ended = edgekd("distill", recipe, "--out", run)
    assert ended.code == 0, ended.err
    context = context_of(recipe, run)
    student, control = (fit_plan(context, Trained(role)) for role in ("student", "control"))
    assert student.unlabelled == frozenset(range(8, 16)) and not control.unlabelled
    images, labels = (sorted((student.data_yaml.parent / kind / "train").iterdir()) for kind in ("images", "labels"))
    labels = [path for path in labels if path.suffix == ".txt"]
    assert len(images) == len(labels) == 16
    assert all(path.read_text() for path in labels[:8]) and not any(path.read_text() for path in labels[8:])
    assert [path.resolve().parent.parent.parent.name for path in images[8:]] == ["more"] * 8
    assert len(list((control.data_yaml.parent / "images" / "train").iterdir())) == 8
    steps = {row["step"] for row in read_terms(run)}
    assert steps == {0, 1}  # of 16 images in batches of 8
    again = edgekd("distill", recipe, "--out", run, "--set", "data.unlabelled=null")
    assert again.code == 0 and "control" in again.kept and "student" not in again.kept


def test_the_teacher_s_boxes_are_labels(recipe: Path) -> None:
    """Its boxes of enough score, as shares of the image; a rule of another score changes no control."""
    run = recipe.parent / "labelled"
    asked = ("--set", "data.unlabelled.labels=teacher", "--set", "data.unlabelled.min_score=0.3")
    ended = edgekd("distill", recipe, "--out", run, *asked)
    assert ended.code == 0, ended.err
    found = read(run / "data/pseudo_labels.json")
    assert len(found["images"]) == 8 and all(min(row["scores"], default=1) >= 0.3 for row in found["images"])
    assert sum(len(row["class_ids"]) for row in found["images"]) > 0
    plan = fit_plan(context_of(recipe, run, *asked[1::2]), Trained("student"))
    assert not plan.unlabelled
    files = sorted((plan.data_yaml.parent / "labels" / "train").glob("*.txt"))[8:]
    for path, row in zip(files, found["images"], strict=True):
        written = np.loadtxt(path, ndmin=2) if path.read_text() else np.zeros((0, 5))
        boxes = np.array(row["boxes_px"]).reshape(-1, 4)
        wide = (boxes[:, 2:] - boxes[:, :2] > 1).all(1)
        assert written[:, 0].tolist() == np.array(row["class_ids"])[wide].tolist()
        np.testing.assert_allclose(written[:, 1], (boxes[wide, 0] + boxes[wide, 2]) / 2 / 64, atol=1e-5)
    more = edgekd("distill", recipe, "--out", run, *asked[:3], "data.unlabelled.min_score=0.2")
    assert more.code == 0 and "control" in more.kept and not {"student", "pseudo_labels"} & set(more.kept)


def test_a_teacher_that_finds_nothing_is_told(recipe: Path) -> None:
    weights(recipe.parent / "unsure.safetensors", "yolo11n", spread=0.0)
    asked = ("--set", "data.unlabelled.labels=teacher", "--set", "teacher.weights=unsure.safetensors")
    ended = edgekd("distill", recipe, "--out", recipe.parent / "unsure", "--set", "control=false", *asked)
    assert ended.code == 2 and "the teacher finds nothing with a score of 0.5; lower min_score" in ended.err


def test_nobody_to_learn_from_them_is_refused(recipe: Path) -> None:
    ended = edgekd("check", recipe, "--set", "distill=[]")
    assert ended.code == 2 and "data.unlabelled.images: no method learns from them" in ended.err


def read_terms(run: Path) -> list[dict[str, int]]:
    import csv

    with (run / "student/terms.csv").open() as stream:
        return [{"step": int(row["step"])} for row in csv.DictReader(stream)]
