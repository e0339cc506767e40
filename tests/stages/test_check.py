"""`edgekd check` on every recipe that edgekd ships, and what a run makes of unusual data and teachers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from edgekd.data.digits import CLASS_NAMES, generate
from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.spec import DenseHead, QueryHead, RegionHead
from edgekd.detectors.ultralytics.weights import save_safetensors
from edgekd.errors import InputError
from edgekd.stages import method_fit, models
from edgekd.stages.binding import bind_recipe
from tests.distill.helpers import build, spec
from tests.stages.tiny import detector, edgekd, export, short_protocol, snapshot, weights, write_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


def trained_pair(folder: Path, **keys: Any) -> None:
    weights(folder / "teacher.safetensors", "yolo11n", **keys)
    weights(folder / "student.safetensors", "yolo11p", **keys)


@pytest.fixture(scope="module")
def opened_once() -> Iterator[None]:
    """Recipes that follow each other share their large detectors, which a check changes no more than its files."""
    plain = families.open_detector

    @lru_cache(maxsize=4)
    def opened(name: str | None, asked: Asked) -> Detector:
        return plain(name, asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "open_detector", lambda name, asked: opened(name, replace(asked, where="x")))
        yield


def test_without_weights_no_model_is_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_pair(folder)
    path = write_recipe(folder / "tiny.yaml", teacher={"model": "yolo11n", "weights": "teacher.safetensors"})
    monkeypatch.setattr(families.family("ultralytics"), "differing", lambda *_: ["scale"], raising=False)
    ended = edgekd("check", path, "--architecture-only")
    assert ended.code == 0, ended.err
    problems = edgekd("check", path).problems
    assert any("holds another model than teacher.model: yolo11n (scale differ)" in problem for problem in problems)


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_resolve(path: Path, folder: Path) -> None:
    ended = edgekd("check", path, "--architecture-only", "--json")
    assert ended.code == 0, ended.err
    content, result = yaml.safe_load(path.read_text(encoding="utf-8")), ended.json
    assert result["recipe"] == path.stem
    for side in ("student", "teacher"):
        if side in content:
            assert result[side]["name"] == content[side]["model"]
            taps = {(tap["role"], tap["stride"]) for tap in result[side]["taps"]}
            finest = set() if content[side]["model"] == "dfine-n" else {("neck", 8)}
            assert {("backbone", 32), *finest, ("neck", 16), ("neck", 32)} <= taps
    assert [entry["method"] for entry in result["distill"]] == [
        entry if isinstance(entry, str) else entry["method"] for entry in content.get("distill", [])
    ]
    assert snapshot(folder) == {}, "nothing is written by looking"


class TestTinyRecipe:
    def test_table_for_people(self, folder: Path) -> None:
        trained_pair(folder)
        ended = edgekd("check", write_recipe(folder / "tiny.yaml"))
        assert ended.code == 0, ended.err
        for text in (
            "recipe tiny resolves",
            "yolo11p",
            "0.81 M",
            "model.16",
            "distill cwd (weight 1)",
            "distill logit",
        ):
            assert text in " ".join(ended.out.split())
        assert sorted(path.name for path in folder.iterdir()) == [
            "cwd",
            "student.safetensors",
            "teacher.safetensors",
            "tiny.yaml",
        ]

    def test_dry_step_trains_one_step(self, folder: Path) -> None:
        trained_pair(folder)
        ended = edgekd("check", write_recipe(folder / "tiny.yaml"), "--dry-step", "--json")
        assert ended.code == 0, ended.err
        assert ended.json["data"] == {"train": 24, "val": 16, "test": 8}
        terms = {term["term"]: term for term in ended.json["dry_step"]["terms"]}
        assert set(terms) == {"detection", "logit.class", "cwd.feature"}
        assert all(term["gradient_norm"] > 0 for term in terms.values())
        assert sum(term["share"] for term in terms.values()) == pytest.approx(1)
        assert ended.json["distill"][1]["taps"] == [["model.16"] * 2, ["model.19"] * 2, ["model.22"] * 2]

    @pytest.mark.slow
    def test_dry_step_runs_the_teacher_as_the_recipe_does(self, folder: Path) -> None:
        trained_pair(folder)
        teacher = {"model": "yolo11n", "weights": "teacher.safetensors", "runtime": "openvino"}
        values = []
        for chosen in (teacher, {**teacher, "runtime": "eager"}):
            ended = edgekd("check", write_recipe(folder / "tiny.yaml", teacher=chosen), "--dry-step", "--json")
            assert ended.code == 0, ended.err
            assert ended.json["teacher"]["runtime"] == chosen["runtime"]
            values.append({term["term"]: term["value"] for term in ended.json["dry_step"]["terms"]})
        assert values[0] == pytest.approx(values[1], rel=1e-4)

    @pytest.mark.parametrize(
        ("teacher", "train", "problem"),
        [
            ({"runtime": "tensorrt"}, {}, "teacher.runtime: input should be 'eager', 'compile' or 'openvino', got"),
            ({"precision": "int8"}, {}, "teacher.precision: input should be 'fp32', 'bf16' or 'fp16', got"),
            ({"precision": "fp16"}, {}, "teacher.precision: fp16 is for a GPU; on a CPU use bf16 or fp32"),
            ({}, {"amp": "bf16"}, "train.amp: bf16 is for a GPU, the student is trained on cpu; use false"),
            ({}, {"activation_checkpointing": "yes"}, "train.activation_checkpointing: "),
        ],
    )
    def test_formats_and_runtimes_that_cannot_be(
        self, teacher: dict[str, str], train: dict[str, Any], problem: str, folder: Path
    ) -> None:
        trained_pair(folder)
        whole = {"model": "yolo11n", "weights": "teacher.safetensors", **teacher}
        recipe = write_recipe(folder / "tiny.yaml", teacher=whole, train={"imgsz": 64, "device": "cpu", **train})
        ended = edgekd("check", recipe)
        assert ended.code == 2
        assert len(ended.problems) == 1
        assert ended.problems[0].startswith(f"{recipe}: {problem}")

    def test_dry_step_of_a_recipe_without_a_teacher(self, folder: Path) -> None:
        recipe = write_recipe(folder / "tiny.yaml", teacher=None, distill=None, student={"model": "yolo11p"})
        ended = edgekd("check", recipe, "--dry-step", "--json")
        assert (ended.code, ended.json["dry_step"], ended.json["teacher"]) == (0, {"terms": []}, None)

    def test_switches_that_exclude_each_other(self, folder: Path) -> None:
        ended = edgekd("check", write_recipe(folder / "tiny.yaml"), "--architecture-only", "--dry-step")
        assert ended.code == 2
        assert ended.problems == ["check: --dry-step needs data and weights; leave out --architecture-only"]


def test_a_method_that_reads_what_a_runtime_cannot_give() -> None:
    part = build("logit", spec(), spec())
    teacher = replace(spec("rtdetr-l"), head=QueryHead(layers=6, queries=300, width=256))
    assert method_fit.unreadable("eager", part, teacher) == []
    assert method_fit.unreadable("openvino", part, spec()) == []
    assert method_fit.unreadable("openvino", build("pkd", spec(), spec()), teacher) == []
    assert method_fit.unreadable("openvino", part, teacher) == [
        "reads class_logits of the teacher; teacher rtdetr-l has a query head, whose outputs runtime openvino "
        "cannot give; set teacher.runtime to eager or compile"
    ]


def test_scores_of_a_softmax_are_not_taken_for_those_of_a_sigmoid() -> None:
    softmax = replace(spec("ssd"), head=DenseHead((8, 16, 32), activation="softmax"))
    for method in ("logit", "score_l2"):
        assert method_fit.unreadable("eager", build(method, spec(), spec()), softmax) == [
            "takes the sigmoid of the teacher's class logits; those of teacher ssd are for a softmax: use a method "
            "that reads maps alone"
        ]
    assert method_fit.unreadable("eager", build("pkd", spec(), spec()), softmax) == []


def test_regions_belong_to_no_point() -> None:
    regions = replace(spec("fasterrcnn-p"), head=RegionHead(128))
    assert method_fit.unreadable("eager", build("logit", spec(), spec()), regions) == [
        "reads class_logits of the teacher; teacher fasterrcnn-p has a region head, whose predictions belong to no "
        "point or query of a student; use a method that reads maps or regions, or its detections as labels "
        "(data.unlabelled)"
    ]
    assert method_fit.unreadable("eager", build("pkd", spec(), spec()), regions) == []


def test_proposals_are_had_of_region_heads_that_give_predictions() -> None:
    mimic = build("mimic", spec(), spec(), regions="teacher")
    silent, telling = (
        replace(spec("r"), head=RegionHead(128, gives=gives)) for gives in ((), ("class_logits", "boxes"))
    )
    (reason,) = method_fit.unreadable("eager", mimic, silent)
    assert reason.startswith("reads boxes, class_logits of the teacher; teacher r has a region head")
    assert method_fit.unreadable("eager", mimic, telling) == []
    assert method_fit.unreadable("openvino", mimic, telling)[0].endswith("set teacher.runtime to eager or compile")
    both = build("gid", spec(), spec())
    assert method_fit.unreadable("eager", both, telling)[0].startswith("reads boxes, class_logits of the teacher")


@pytest.mark.slow
def test_grey_images_go_the_whole_road(folder: Path) -> None:
    data = generate(folder / "data", imgsz=64, train=16, val=4, test=4, seed=0)
    for path in (folder / "data/images").rglob("*.*"):
        Image.open(path).convert("L").save(path)
    data.write_text(data.read_text() + "channels: 1\n")
    trained_pair(folder, channels=1)
    recipe = write_recipe(
        folder / "tiny.yaml",
        data={"format": "yolo", "path": "data/data.yaml"},
        control=False,
        export=[export("onnx-fp32")],
        gate=None,
    )
    with short_protocol():
        ended = edgekd("run", recipe, "--out", folder / "run", "--json")
    assert ended.code == 0, ended.err
    sidecar = json.loads((folder / "run/export/onnx-fp32/edgekd.json").read_text())
    assert sidecar["input_shape"][1] == 1
    packs = list((folder / "run/data/packs").glob("*.npy"))
    assert [np.load(pack).shape for pack in packs] == [(4, 64, 64, 1)] * 2  # of val and of test
    assert ended.json["artifacts"][0]["ap"] == pytest.approx(ended.json["student"]["ap"], abs=1e-3)


def test_a_teacher_of_more_classes_in_another_order(folder: Path) -> None:
    """Class mapping by name: its AP is that of the same teacher in the data's own order, and it teaches the same."""
    plain = detector("yolo11n")
    shuffled = ("zebra", *(CLASS_NAMES[index].upper() for index in (7, 2, 9, 0, 4, 1, 8, 3, 6, 5)), "ant")
    other = detector("yolo11n", names=shuffled)
    state, source = other.module.state_dict(), plain.module.state_dict()
    for key, value in source.items():
        if ".cv3." in key and key.endswith((".2.weight", ".2.bias")):  # one row per class
            for row, name in enumerate(shuffled):
                if name.lower() in CLASS_NAMES:
                    state[key][row] = value[CLASS_NAMES.index(name.lower())]
                else:
                    state[key][row] = 3.0 if key.endswith("bias") else 0.0  # sure of what the data does not have
        elif value.shape == state[key].shape:
            state[key] = value
    other.module.load_state_dict(state)
    torch.manual_seed(0)
    images = torch.rand(1, 3, 64, 64)
    columns = [shuffled.index(name.upper()) for name in CLASS_NAMES]
    expected, found = (one.export_module("one2many")(images)[1] for one in (plain, other))
    torch.testing.assert_close(found[..., columns], expected)

    weights(folder / "student.safetensors", "yolo11p")
    results = {}
    for name, one in (("plain", plain), ("other", other)):
        save_safetensors(one.module, folder / "teacher.safetensors", {}, half=False)
        recipe = write_recipe(folder / "tiny.yaml", control=False, export=[], gate={}, validate={"max_det": 100})
        ended = edgekd("distill", recipe, "--out", folder / name, "--json")
        assert ended.code == 0, ended.err
        terms = json.loads((folder / name / "student/first_steps.json").read_text())["terms"]
        results[name] = ended.json, {term["term"]: term["value"] for term in terms}
    assert results["other"][0]["teacher"]["classes_known"] == 10
    assert results["other"][0]["teacher"]["ap"] == pytest.approx(results["plain"][0]["teacher"]["ap"], abs=1e-9)
    assert results["plain"][0]["teacher"]["ap50"] > 0
    assert results["other"][1] == pytest.approx(results["plain"][1], rel=1e-3)


def test_a_gpu_that_is_not_there_is_told_with_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    recipe = write_recipe(tmp_path / "r.yaml", train={"imgsz": 64, "device": 0})
    with pytest.raises(InputError) as caught:
        models.check_runtime(bind_recipe(recipe))
    assert caught.value.problems == (
        f"{recipe}: train.device: got 0, but torch sees no GPU here; write 'device: cpu', or leave it out to take what "
        "there is",
    )
