"""Teachers of which only detections are known: a file of them, or an ONNX file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekd.data.config import DataSet, YoloData, load
from edgekd.data.digits import CLASS_NAMES, generate
from edgekd.data.pack import build
from edgekd.export.contract import Source
from edgekd.export.targets import load_target, run_steps
from edgekd.recipe.sections import ValidateRecipe
from edgekd.stages.accuracy import detect_in_torch, summarise
from edgekd.types import Detections
from tests.stages.tiny import Ended, detector, edgekd, lines, read, weights, write_recipe

Found = dict[str, list[Detections]]


def detected(data: DataSet, folder: Path) -> Found:
    """What the network finds in the splits that are looked at."""
    assert data.unlabelled is not None
    splits = {"val": data.splits["val"], "test": data.splits["test"], "unlabelled": data.unlabelled.split}
    return {
        name: detect_in_torch(
            detector("yolo11n"), "one2many", pack=build(split, (64, 64), 3, folder), columns=None,
            settings=ValidateRecipe(), title=name,
        )
        for name, split in splits.items()
    }  # fmt: skip


def as_coco(found: list[Detections], images: str) -> list[dict[str, Any]]:
    """COCO's results; images are named by their paths."""
    return [
        {
            "file_name": f"{images}/{number:06d}.png", "category_id": int(label), "score": float(score),
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
        }
        for number, one in enumerate(found, 1)
        for box, score, label in zip(one.boxes_px, one.scores, one.class_ids, strict=True)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def data(folder: Path) -> DataSet:
    unlabelled = {"images": "more/images/train", "labels": "teacher", "min_score": 0.3}
    asked = YoloData.model_validate({"format": "yolo", "path": "set/data.yaml", "unlabelled": unlabelled})
    return load(asked, folder / "scratch", folder)


@pytest.fixture(scope="module")
def found(folder: Path, data: DataSet) -> Found:
    """What a network finds; as a file, too."""
    found = detected(data, folder / "scratch")
    places = {"val": "images/val", "test": "images/test", "unlabelled": "more/images/train"}
    rows = [row for split, images in places.items() for row in as_coco(found[split], images)]
    (folder / "found.json").write_text(json.dumps(rows))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of 8 images a split, as many without labels, a network, and the same as an ONNX file."""
    folder = tmp_path_factory.mktemp("recorded")
    weights(folder / "teacher.safetensors", "yolo11n")
    generate(folder / "set", imgsz=64, train=8, val=8, test=8)
    generate(folder / "more", imgsz=64, train=8, val=1, test=1, seed=3)
    module = detector("yolo11n").export_module(None).eval()
    source = Source(module, "dense", CLASS_NAMES, 3, (64, 64), 32, sha256="5eed" * 16)
    target = load_target("onnx-fp32", {"batch": "dynamic"}, "test")
    shutil.copy(run_steps(source, target, folder / "artifact").model_path, folder / "teacher.onnx")
    return folder


def recipe(folder: Path, name: str, teacher: dict[str, Any], **changes: Any) -> Path:
    unlabelled = {"images": "more/images/train", "labels": "teacher", "min_score": 0.3}
    data = {"format": "yolo", "path": "set/data.yaml", "unlabelled": unlabelled}
    others = {"distill": [], "control": False, "export": [], "devices": [], "gate": None, **changes}
    return write_recipe(folder / f"{name}.yaml", data=data, teacher=teacher, student={"model": "yolo11p"}, **others)


def refused(folder: Path, content: Any) -> list[str]:
    """What `check` says of a file of detections."""
    (folder / "faulty.json").write_text(content if isinstance(content, str) else json.dumps(content))
    ended = edgekd("check", recipe(folder, "faulty", {"predictions": "faulty.json"}))
    assert ended.code == 2
    return ended.problems


def test_a_file_of_detections_is_the_network_that_made_it(folder: Path, data: DataSet, found: Found) -> None:
    """Its AP on val and on test, and what becomes labels."""
    asked, run = recipe(folder, "recorded", {"predictions": "found.json"}), folder / "recorded"
    ended = edgekd("run", asked, "--out", run)
    assert ended.code == 0, ended.err
    for split, place in (("val", ""), ("test", "test/")):
        expected = summarise(data.splits[split], found[split], CLASS_NAMES, ValidateRecipe(), None)
        own = read(run / f"{place}validate/teacher@host.json")
        assert (own["ap"], own["ap50"]) == pytest.approx((expected["ap"], expected["ap50"]), abs=1e-5)
        rows = lines(run / f"{place}validate/teacher@host.detections.jsonl")
        assert [row["class_ids"] for row in rows] == [one.class_ids.tolist() for one in found[split]]
    assert "found.json: AP " in ended.err
    labels = read(run / "data/pseudo_labels.json")["images"]
    assert [row["class_ids"] for row in labels] == [
        one.class_ids[one.scores >= 0.3].tolist() for one in found["unlabelled"]
    ]
    assert sum(len(row["class_ids"]) for row in labels) > 0
    described = read(run / "teacher/teacher.json")
    assert (described["family"], described["name"], described["parameters"]) == ("predictions", "found.json", 0)
    assert edgekd("report", run).code == 0  # from the locked recipe
    assert {"teacher", "pseudo_labels", "student"} <= set(edgekd("run", asked, "--out", run).kept)


def test_methods_for_such_a_teacher(folder: Path, found: Found) -> None:
    """None looks into it; the assistant head needs no teacher."""
    ended = edgekd("methods", "--for", recipe(folder, "recorded", {"predictions": "found.json"}), "--json")
    assert ended.code == 0, ended.err
    serving = [row["method"] for row in ended.json if row["serves"]]
    assert serving == ["head_assistant"]
    why = {row["method"]: "; ".join(row["why not"]) for row in ended.json}
    shown = edgekd("check", folder / "recorded.yaml")
    assert "teacher: found.json, no weights, detections head, nothing inside is known" in " ".join(shown.out.split())
    for method in ("logit", "pkd", "gdetkd", "lad", "ld"):
        assert why[method].startswith(f"{method} looks into the teacher; of teacher found.json nothing is known but")


def test_onnx_teaches_at_its_points(folder: Path) -> None:
    """With strides told, by the methods that need scores and boxes alone; not in another runtime."""
    (folder / "teacher.json").write_text('{"strides": [8, 16, 32]}')
    asked = recipe(folder, "onnx", {"weights": "teacher.onnx"}, distill=["logit", "kdhl", "dyolo"])
    ended = edgekd("check", asked, "--dry-step", "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["teacher"]["family"], ended.json["teacher"]["head_kind"]) == ("onnx", "dense")
    network = recipe(folder, "same", {"weights": "teacher.safetensors"}, distill=["logit", "kdhl", "dyolo"])
    same = edgekd("check", network, "--dry-step", "--json")
    values = [{term["term"]: term["value"] for term in one.json["dry_step"]["terms"]} for one in (ended, same)]
    assert set(values[0]) >= {"detection", "logit.class", "kdhl.class", "kdhl.box"}
    assert values[0] == pytest.approx(values[1], rel=5e-3)  # a box more or less survives dyolo's NMS
    found = {row["method"]: row for row in edgekd("methods", "--for", asked, "--json").json}
    assert all(found[name]["serves"] for name in ("logit", "kdhl", "lad", "bckd", "dyolo", "aba", "rank_mimicking"))
    assert not any(found[name]["serves"] for name in ("ld", "pkd", "cwd", "crosskd", "score_l2"))
    for key, value in (("runtime", "openvino"), ("precision", "bf16")):
        ended = edgekd("check", asked, "--set", f"teacher.{key}={value}")
        assert ended.code == 2
        assert ended.problems[0].endswith("teacher.onnx runs as its file says; leave runtime and precision out")


def test_a_file_of_other_images(folder: Path, found: Found) -> None:
    rows = read(folder / "found.json")
    strange = [{**row, "file_name": f"another/{row['file_name']}"} for row in rows]
    problems = refused(folder, strange)
    assert [problem.partition("on any of the ")[2].partition(",")[0] for problem in problems] == [
        f"8 images of {split}" for split in ("val", "test", "unlabelled")
    ]
    (problem,) = refused(folder, [row for row in rows if "images/test" not in row["file_name"]])
    assert "faulty.yaml: teacher.predictions: " in problem and "8 images of test, which are looked at" in problem


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"category_id": 10}, "unknown category_id '10' (known: 0, 1, 2"),
        ({"score": 7}, "[0]: score must be a number from 0 to 1; correct the file"),
        ({"bbox": [64, 0, 5, 5]}, "lies outside of its image"),
        ({"file_name": "000001.png"}, "may be an image of train or of val; name images by file_name"),
    ],
)
def test_values_that_cannot_be(change: dict[str, Any], fault: str, folder: Path, found: Found) -> None:
    rows = read(folder / "found.json")
    (problem,) = refused(folder, [{**rows[0], **change}, *rows[1:]])
    assert "faulty.yaml: teacher.predictions: " in problem and fault in problem


def test_keys_that_do_not_go_together(folder: Path) -> None:
    def said(teacher: dict[str, Any]) -> Ended:
        return edgekd("check", recipe(folder, "faulty", teacher))

    ended = said({"predictions": "found.json", "model": "yolo11n", "runtime": "compile"})
    assert ended.code == 2
    assert "runtime, model: not beside 'predictions', which nothing runs" in ended.problems[0]
    ended = said({"runtime": "compile"})
    assert "give 'model' (a name such as yolo26n), 'weights' (a file) or 'predictions' (a JSON)" in ended.problems[0]
