"""A store is compared before anything is absorbed or labelled: of `unikd`, and of images without labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekd.data.digits import generate

from .test_knowledge import files, recipe
from .tiny import edgekd, weights

UNIKD = {"method": "unikd", "queries": 6, "width": 16, "absorb_epochs": 1}
PREPARED = Path("prepare", "unikd", "prepared.safetensors")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared_store")
    weights(folder / "teacher.safetensors", "yolo11n")
    weights(folder / "student.safetensors", "yolo11p")
    ended = edgekd("knowledge", recipe(folder, distill=[UNIKD]), "--out", folder / "run")
    assert ended.code == 0, ended.err
    return folder


def reading(folder: Path, file: str, **keys: Any) -> tuple[Any, ...]:
    """A recipe that reads the store, with keys of `unikd`."""
    path = recipe(folder, file, distill=[{**UNIKD, **keys}])
    return (path, "--set", f"teacher.store={folder / 'run' / 'knowledge'}")


def test_check_says_what_differs_before_anything_is_absorbed(made: Path, tmp_path: Path) -> None:
    store = files(made / "run" / "knowledge")
    same = edgekd("check", *reading(made, "same.yaml"), "--no-estimate", "--json")
    assert same.code == 0 and ", complete; " in same.json["knowledge"], same.err
    other = (*reading(made, "other.yaml", queries=8), "--set", "train.fliplr=0.25")
    for number, command in enumerate((("check", *other), ("knowledge", *other, "--out", tmp_path / "run"))):
        ended = edgekd(*command)
        (problem,) = [line for line in ended.err.splitlines() if "error" in line]
        assert ended.code == 2, number
        assert "differs in augmentation.fliplr (0.5, now 0.25), unikd.config.queries (6, now 8); " in problem
    assert not (tmp_path / "run" / "prepare").exists() and not (tmp_path / "run" / "teacher").exists()
    assert files(made / "run" / "knowledge") == store


def test_what_the_extractors_do_not_depend_on_may_differ(made: Path) -> None:
    """Keys of the student's side, and a student of other strides."""
    other = reading(made, "student.yaml", adapter_layers=0, content=3.0, negatives=False, weight=2.0, taps=["backbone"],
                    teacher_taps="neck")  # fmt: skip
    ended = edgekd("check", *other, "--no-estimate", "--json")
    assert ended.code == 0 and ", complete; " in ended.json["knowledge"], ended.err
    (problem,) = edgekd("check", *reading(made, "alone.yaml", positional=0)).problems
    assert "differs in unikd.config.positional (True, now False); " in problem


def test_a_file_that_is_named_is_compared_at_once(made: Path) -> None:
    own = edgekd("check", *reading(made, "own.yaml", prepared=str(made / "run" / PREPARED)), "--no-estimate")
    assert own.code == 0, own.err
    ended = edgekd("prepare", *reading(made, "seed.yaml"), "--set", "seed=9", "--out", made / "seed")
    assert ended.code == 0, ended.err
    shutil.copy(made / "seed" / PREPARED, made / "seed.safetensors")
    (problem,) = edgekd("check", *reading(made, "named.yaml", prepared="seed.safetensors")).problems
    assert "differs in unikd.prepared (" in problem


def test_images_that_the_teacher_is_to_label_are_compared_without_their_labels(made: Path) -> None:
    generate(made / "more", imgsz=64, train=4, val=1, test=1, seed=3)
    asked = ("--set", "data.unlabelled.images=more/images/train", "--set", "data.unlabelled.labels=teacher")
    (problem,) = edgekd("check", *reading(made, "unlabelled.yaml"), *asked).problems
    assert "differs in data.unlabelled.images (none, now " in problem and "data.unlabelled.labels" not in problem
