"""Teachers from folders of transformers: what `check` says of a pair, a step, what a finished stage depends on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors.contract import Asked
from edgekd.detectors.families import open_detector
from edgekd.stages.binding import hash_of_weights
from tests.detectors.transformers.folders import change, network, write
from tests.stages.tiny import edgekd, short_protocol, write_recipe

MAPS = ("pkd", "fitnet", "mimic")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


def recipe(folder: Path, teacher: str, methods: tuple[str, ...], **changes: Any) -> Path:
    write(network(teacher, CLASS_NAMES), folder / "teacher")
    return write_recipe(
        folder / "tiny.yaml",
        teacher={"weights": "teacher"},
        student={"model": "yolo11p"},
        distill=[{"method": method} for method in methods],
        **changes,
    )


@pytest.mark.parametrize("teacher", ["dfine-p", pytest.param("detr-p", marks=pytest.mark.slow)])
def test_a_step_of_the_methods_that_read_maps(teacher: str, folder: Path) -> None:
    ended = edgekd("check", recipe(folder, teacher, MAPS), "--dry-step", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert (found["teacher"]["family"], found["teacher"]["name"]) == ("transformers", "teacher")
    assert found["teacher"]["head_kind"] == "query"
    assert found["teacher"]["classes"] == len(CLASS_NAMES)
    pairs = {method["method"]: method["taps"] for method in found["distill"]}
    assert len(pairs["pkd"]) == (3 if teacher == "dfine-p" else 1)
    terms = {term["term"].partition(".")[0]: term for term in found["dry_step"]["terms"]}
    assert set(terms) == {"detection", *MAPS}
    assert all(term["gradient_norm"] > 0 for term in terms.values())


def test_which_methods_serve(folder: Path) -> None:
    path = recipe(folder, "rt-detr-p", ("logit",))
    ended = edgekd("check", path)
    assert ended.code == 2
    assert (
        "distill[0]: logit needs a dense head on both sides; student yolo11p has a dense head, teacher teacher has a "
        "query head; methods that serve this pair: kd_detr, "
    ) in ended.problems[0]
    ended = edgekd("methods", "--for", path, "--json")
    assert ended.code == 0, ended.err
    assert {"pkd", "cwd", "fgd", "mgd"} <= {one["method"] for one in ended.json if one["serves"]}


def test_weights_that_are_not_there(folder: Path) -> None:
    path = recipe(folder, "dfine-p", ())
    shutil.rmtree(folder / "teacher")
    for teacher in ({"model": "dfine-p", "weights": "teacher"}, {"family": "transformers", "weights": "teacher"}):
        write_recipe(path, teacher=teacher, student={"model": "yolo11p"}, distill=[])
        ended = edgekd("check", path)
        assert ended.code == 2
        assert ended.problems == [
            f"{path}: teacher.weights: teacher does not exist (edgekd downloads none); give the folder that "
            "model.save_pretrained wrote"
        ]


def test_a_folder_is_known_by_what_is_read_of_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = hash_of_weights(tmp_path)
    (tmp_path / "README.md").write_text("other")
    (tmp_path / "checkpoints").mkdir()
    assert hash_of_weights(tmp_path) == first
    change(tmp_path / "config.json", id2label={"0": "cat"})
    second = hash_of_weights(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert len({first, second, hash_of_weights(tmp_path)}) == 3
    assert hash_of_weights(tmp_path / "nowhere") is hash_of_weights(None) is None


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["dfine-p", "rt-detr-p"])
def test_a_whole_run(teacher: str, folder: Path) -> None:
    """From the folder to the gate; the teacher, which knows nothing, is measured first."""
    path = recipe(folder, teacher, ("pkd",), gate=None)
    with short_protocol():
        ended = edgekd("run", path, "--out", folder / "run", "--json")
    assert ended.code == 0, ended.err
    assert (folder / "run/teacher/teacher.json").is_file()
    assert (folder / "run/student/student.pt").is_file()
    again = edgekd("run", path, "--out", folder / "run", "--json")
    assert "teacher" in again.kept


@pytest.mark.slow
@pytest.mark.parametrize("student", ["dfine-p", "rt-detr-v2-p"])
def test_a_student_of_transformers(student: str, folder: Path) -> None:
    """Trained by the engine's loop with its own losses, exported, and opened again as a teacher."""
    path = recipe(folder, "rt-detr-p", ("pkd",), gate=None)
    write_recipe(
        path,
        teacher={"weights": "teacher"},
        student={"model": student},
        distill=[{"method": "pkd"}],
        export=["onnx-fp32"],
        gate=None,
    )
    with short_protocol():
        ended = edgekd("run", path, "--out", folder / "run", "--json")
    assert ended.code == 0, ended.err
    opened = open_detector(None, Asked(None, folder / "run/student/student.safetensors", (), 3, "here"))
    assert (opened.spec.family, opened.spec.name, opened.spec.class_names) == ("transformers", student, CLASS_NAMES)
    assert (folder / "run/student/student.float32.safetensors").is_file()
