"""`quantize: {mode: qat}` through the whole program: what is written, kept, exported from, and refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml

from edgekd.atomic import sha256_file
from edgekd.stages.binding import recipe_json_schema
from edgekd.stages.quantize import student_for
from tests.stages.tiny import edgekd, export, read, short_protocol, weights, write_recipe

QAT: dict[str, Any] = {
    "mode": "qat", "epochs": 1, "lr0": 0.0001, "distill": [{"method": "fitnet", "weight": 0.5}], "train": {"batch": 12},
}  # fmt: skip


def recipe(folder: Path, **changes: Any) -> Path:
    weights(folder / "teacher.safetensors", "yolo11n")
    weights(folder / "student.safetensors", "yolo11p")
    plain = {"distill": [], "control": False, "teacher": None, "export": [export("onnx-fp32")], "gate": None}
    return write_recipe(folder / "tiny.yaml", **{**plain, "quantize": QAT, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qat")
    ended = edgekd("distill", recipe(path), "--out", path / "run", "--json")
    assert ended.code == 0, ended.err
    (path / "said").write_text(ended.err, encoding="utf-8")
    (path / "found").write_text(ended.out, encoding="utf-8")
    return path


class TestRun:
    def test_what_is_written(self, folder: Path) -> None:
        run = folder / "run"
        assert sorted(path.name for path in (run / "student_qat").iterdir()) == [
            "epochs.csv", "first_steps.json", "metrics.json", "student.pt", "student.safetensors", "terms.csv",
            "training.json",
        ]  # fmt: skip
        metrics, accuracy = read(run / "student_qat/metrics.json"), read(run / "validate/student_qat@host.json")
        assert metrics["weights_sha256"] == sha256_file(run / "student_qat/student.pt")
        assert metrics["weights_sha256"] != sha256_file(run / "student/student.pt")
        assert metrics["ap"] == accuracy["ap"]
        assert metrics["epochs"] == 1
        terms = {term["term"] for term in read(run / "student_qat/first_steps.json")["terms"]}
        assert terms == {"detection", "fitnet.feature"}
        stages = list(read(run / "manifest.json")["stages"])
        assert stages[stages.index("accuracy/student") + 1 :] == ["student_qat", "accuracy/student_qat"]
        warning = "warning: quantize: no target of the recipe is int8; the others are exported from the float student"
        assert warning in (folder / "said").read_text(encoding="utf-8")

    def test_it_is_a_model_of_its_own_in_the_tables(self, folder: Path) -> None:
        assert list(read(folder / "found")) == ["student", "student_qat"]
        rows = edgekd("validate", folder / "run", "--set", "devices=[]", "--json").json
        assert [row["model"] for row in rows] == ["student", "student_qat"]

    def test_the_locked_recipe_is_a_recipe(self, folder: Path) -> None:
        content = yaml.safe_load((folder / "run/recipe.lock.yaml").read_text(encoding="utf-8"))["quantize"]
        assert content["teacher"] == "student"
        assert content["distill"][0]["method"] == "fitnet"
        assert content["distill"][0]["schedule"]["decay"] == "none"
        assert (content["range_epochs"], content["batch_norms"]) == (1.0, "frozen")
        again = edgekd("check", folder / "run/recipe.lock.yaml", "--architecture-only", "--json")
        assert again.code == 0, again.err
        assert again.json["quantize"]["distill"][0]["taps"] == [
            ["model.16", "model.16"], ["model.19", "model.19"], ["model.22", "model.22"],
        ]  # fmt: skip
        train = again.json["quantize"]["train"]
        assert (train["optimizer"], train["lr0"], train["batch"], train["mosaic"]) == ("AdamW", 0.0001, 12, 0.0)

    def test_done_once(self, folder: Path) -> None:
        kept = edgekd("distill", folder / "tiny.yaml", "--out", folder / "run").kept
        assert kept == ["data", "student", "accuracy/student", "student_qat", "accuracy/student_qat"]


def test_int8_targets_are_the_other_students() -> None:
    def of(mode: str, precision: str) -> str:
        bound = SimpleNamespace(recipe=SimpleNamespace(quantize=SimpleNamespace(mode=mode)))
        target: Any = SimpleNamespace(precision=precision)
        context: Any = SimpleNamespace(bound=bound)
        return student_for(context, target)

    assert of("qat", "int8") == "student_qat"
    assert {of("qat", "fp16"), of("qat", "fp32"), of("ptq", "int8")} == {"student"}


class TestRefused:
    def problems(self, folder: Path, quantize: dict[str, Any], **changes: Any) -> list[str]:
        ended = edgekd("check", recipe(folder, quantize=quantize, **changes), "--architecture-only")
        assert ended.code == 2
        return [problem.removeprefix(f"{folder / 'tiny.yaml'}: ") for problem in ended.problems]

    def test_everything_at_once(self, tmp_path: Path) -> None:
        found = self.problems(tmp_path, {
            "mode": "qat",
            "distill": [{"method": "logit", "wieght": 2}, "nonesuch"],
            "train": {"epochs": 5, "workers": -1, "nodes": 2, "compile": True, "moasic": 1, "data": "x"},
        })  # fmt: skip
        starts = [problem.split(":")[0] for problem in found]
        assert starts == [
            "quantize.distill[0].wieght", "quantize.distill[1].method", "quantize.train.epochs",
            "quantize.train.workers", "quantize.train.nodes", "quantize.train.compile", "quantize.train.moasic",
            "quantize.train.data",
        ]  # fmt: skip
        assert found[2] == "quantize.train.epochs: is not for this section; use quantize.epochs instead"
        assert "did you mean 'weight'?" in found[0]
        assert "did you mean 'mosaic'?" in found[6]

    def test_keys_that_would_do_nothing(self, tmp_path: Path) -> None:
        assert self.problems(tmp_path, {"epochs": 5, "distill": []}) == [
            "quantize: distill, epochs: only with mode: qat; set it, or leave them out"
        ]

    def test_unknown_keys_and_modes(self, tmp_path: Path) -> None:
        found = self.problems(tmp_path, {"mode": "awq", "epoch": 1})
        assert [problem.split(",")[0] for problem in found] == [
            "quantize.mode: input should be 'ptq' or 'qat'", "quantize.epoch: unknown key 'epoch' (known: activations",
        ]  # fmt: skip

    def test_a_teacher_that_there_is_not(self, tmp_path: Path) -> None:
        found = self.problems(tmp_path, {"mode": "qat", "teacher": "teacher"})
        assert found == ["'quantize.teacher: teacher' needs a 'teacher'"]

    def test_a_method_that_does_not_fit(self, tmp_path: Path) -> None:
        quantize = {"mode": "qat", "distill": ["ld", {"method": "cwd", "taps": "model.3000"}]}
        found = self.problems(tmp_path, quantize, student={"model": "yolo26n"})
        assert found[0].startswith("quantize.distill[0]: ld needs a box distribution of equal bins on both sides")
        assert found[1].startswith("quantize.distill[1]: ")
        assert "model.3000" in found[1]

    def test_a_batch_that_processes_cannot_share(self, tmp_path: Path) -> None:
        quantize = {"mode": "qat", "train": {"batch": 9}}
        train = {"device": "cpu", "gpus_per_node": 2, "batch": 8, "imgsz": 64}
        found = self.problems(tmp_path, quantize, train=train)
        assert found == ["quantize.train.batch: got 9, of which 2 processes get equal shares; try 8 or 10"]


def test_the_recipes_teacher_may_teach(tmp_path: Path) -> None:
    changes = {"teacher": {"model": "yolo11n"}, "quantize": {"mode": "qat", "teacher": "teacher", "distill": ["pkd"]}}
    ended = edgekd("check", recipe(tmp_path, **changes), "--architecture-only", "--json")
    assert ended.code == 0, ended.err
    (method,) = ended.json["quantize"]["distill"]
    assert (method["method"], ended.json["quantize"]["teacher"]) == ("pkd", "teacher")


def test_editors_know_the_section() -> None:
    schema = recipe_json_schema()
    plain = {"name": "a", "data": {"format": "digits"}, "student": {"model": "yolo11p"}}
    for quantize in ({}, QAT, {"mode": "qat", "teacher": "teacher", "distill": ["logit"], "predictions": "float"}):
        jsonschema.validate({**plain, "quantize": quantize}, schema)
    for quantize in ({"mode": "awq"}, {"epoch": 1}, {"mode": "qat", "distill": ["nonesuch"]}, {"range_decay": 1.0}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**plain, "quantize": quantize}, schema)


@pytest.mark.slow
def test_int8_artifacts_come_from_it(tmp_path: Path) -> None:
    quantize = {"mode": "qat", "epochs": 1, "range_epochs": 0.5}
    wide = {"tolerance": {"max_abs_score": 1.0, "max_abs_box_px": 1000.0}}
    options = {"options": {"onnx-int8": {"max_drop": None, "calibration_images": 8}}}
    targets = [export("onnx-fp32"), {"target": "onnx-int8", **wide, **options}]
    path = recipe(tmp_path, quantize=quantize, export=targets)
    with short_protocol():
        ended = edgekd("run", path, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert "warning: quantize" not in ended.err
    run = tmp_path / "run"
    for target, student in (("onnx-fp32", "student"), ("onnx-int8", "student_qat")):
        sidecar = read(run / f"export/{target}/edgekd.json")
        assert sidecar["parent_sha256"] == sha256_file(run / student / "student.pt")
    assert {row["target"] for row in read(run / "report.json")["artifacts"]} == {"onnx-fp32", "onnx-int8"}
    with short_protocol():
        again = edgekd("run", path, "--out", run)
    assert "student_qat" in again.kept
    assert "export/onnx-int8" in again.kept
