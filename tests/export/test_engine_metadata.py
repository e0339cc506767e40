"""Exported files in the hands of Ultralytics: read right, or refused in words; never misread."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from edgekd.agent.artifact import load
from edgekd.agent.detector import Detector
from edgekd.agent.runtimes import open_model
from edgekd.agent.session import Session
from edgekd.atomic import read_json
from edgekd.detectors.ultralytics.guard import guard
from edgekd.export.contract import Artifact, Sidecar, Source
from edgekd.export.engine_metadata import append_to, engine_metadata, write_beside
from edgekd.export.targets import run_steps
from edgekd.measure.average_precision import evaluate
from edgekd.types import ByteArray, Detections, GroundTruth
from tests.export.students import CLASS_NAMES, photographs, source, target

SIZE_PX = (256, 256)
COUNT = 8
HEADS = {"dense": ("yolo11p", None), "end2end": ("yolo26p", "one2one")}
REFUSED = "boxes and scores in two outputs (edgekd), which Ultralytics misreads: export with layout: ultralytics"
_MADE: dict[str, Artifact] = {}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    def make(head: str, target_name: str, **over: Any) -> Artifact:
        key = f"{head} {target_name} {over}"
        if key not in _MADE:
            name, branch = HEADS[head]
            folder = tmp_path_factory.mktemp("engine") / target_name
            _MADE[key] = run_steps(student_of_small_boxes(name, branch), target(target_name, **over), folder)
        return _MADE[key]

    return make


def images() -> ByteArray:
    return photographs(COUNT, *SIZE_PX)


def opened(path: Path, task: str | None = None) -> Any:
    guard()
    from ultralytics import YOLO

    return YOLO(path, task=task)


def openable(artifact: Artifact, folder: Path) -> Path:
    """A path that the engine opens: the ONNX itself, or a copy of the folder under the name that it knows."""
    if artifact.model_path.suffix == ".onnx":
        return artifact.model_path
    shutil.copytree(artifact.folder, folder / "mine_openvino_model")
    return folder / "mine_openvino_model"


@cache
def student_of_small_boxes(name: str, head: str | None) -> Source:
    """An untrained student's boxes fill the image and more; these are one or two strides wide to each side."""
    found = source(name, head, SIZE_PX)
    towers = found.module.network.model[-1]
    bins = towers.reg_max
    for tower in towers.one2one_cv2 if head == "one2one" else towers.cv2:
        tower[-1].bias += 1.5 if bins == 1 else -1.5 * torch.arange(bins).repeat(4)
    return found


@cache
def _session(folder: Path) -> Session:
    return Session(load(folder), SIZE_PX, 3, conf=0.001)


def agent_detections(artifact: Artifact) -> dict[int, Detections]:
    """Of the photographs, not clipped to them: an untrained student's boxes stick out, and the engine clips none."""
    session = _session(artifact.folder)
    found = {}
    for index, image in enumerate(images(), 1):
        session.put(np.repeat(image[None], session.batch, axis=0))
        found[index] = Detections(*session.decode(session.infer(), 1)[0])
    return found


def labelled(artifact: Artifact, folder: Path) -> tuple[Path, list[GroundTruth]]:
    """The photographs with labels that the student finds in part: some of its boxes, moved, and some of other classes.

    Returns:
        the engine's data.yaml, and the same as edgekd has it.
    """
    from PIL import Image

    random = np.random.default_rng(5)
    height, width = SIZE_PX
    truth = []
    for index, image in enumerate(images(), 1):
        found = agent_detections(artifact)[index]
        whole = (found.boxes_px > 2).all(axis=1) & (found.boxes_px < np.array([width, height] * 2) - 2).all(axis=1)
        best = [np.flatnonzero(whole & (found.class_ids == class_id))[:8] for class_id in range(len(CLASS_NAMES))]
        chosen = random.permutation(np.concatenate(best))[:16]
        boxes = found.boxes_px[chosen] + random.uniform(-2, 2, (len(chosen), 4)).astype(np.float32)
        classes = found.class_ids[chosen]
        truth.append(GroundTruth(index, f"{index}.png", height, width, boxes, classes, np.zeros(len(boxes), bool)))
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "images" / f"{index}.png")
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        rows = np.column_stack([classes, np.hstack([centres, sides]) / [width, height, width, height]])
        lines = ["{:.0f} {:.9f} {:.9f} {:.9f} {:.9f}".format(*row) for row in rows]
        (folder / "labels" / f"{index}.txt").write_text("\n".join(lines))
    content = {"path": str(folder), "train": "images", "val": "images", "names": dict(enumerate(CLASS_NAMES))}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder / "data.yaml", truth


@pytest.mark.parametrize(
    ("head", "target_name", "over", "within"),
    [
        ("dense", "onnx-fp32", {"layout": "ultralytics"}, 0.003),
        ("dense", "onnx-fp32", {"layout": "ultralytics", "batch": "dynamic", "size": "dynamic"}, 0.003),
        ("dense", "onnx-fp32", {"nms": "in_graph"}, 0.003),
        ("dense", "openvino-fp32", {"layout": "ultralytics", "batch": 2}, 0.02),
        ("end2end", "onnx-fp32", {}, 0.01),
        ("end2end", "onnx-fp16", {"layout": "ultralytics"}, 0.01),
    ],
)
def test_the_engine_measures_the_same_ap(
    head: str, target_name: str, over: dict[str, Any], within: float, made: Any, tmp_path: Path
) -> None:
    """Not exactly: the engine interpolates precision otherwise than COCO does, and lets OpenVINO round to 16 bits."""
    artifact = made(head, target_name, **over)
    data, truth = labelled(artifact, tmp_path / "data")
    ours = evaluate(truth, agent_detections(artifact), CLASS_NAMES)
    as_exported = {"imgsz": SIZE_PX[0], "rect": False} if over.get("size") == "dynamic" else {}
    theirs = opened(openable(artifact, tmp_path)).val(
        data=str(data), workers=0, plots=False, verbose=False, project=str(tmp_path), name="val", device="cpu",
        conf=0.001, iou=0.7, max_det=300, **as_exported,
    )  # fmt: skip
    assert 0.2 < ours.ap < 0.9
    assert (theirs.box.map, theirs.box.map50) == pytest.approx((ours.ap, ours.ap50), abs=within)


@pytest.mark.parametrize(
    ("head", "over"), [("dense", {"layout": "ultralytics"}), ("dense", {"nms": "in_graph"}), ("end2end", {})]
)
def test_the_engine_detects_the_same_in_a_photograph(head: str, over: dict[str, Any], made: Any) -> None:
    """Of another shape than the input. The engine keeps the best class of a box, edgekd each that passes."""
    from skimage import data

    photograph = data.chelsea()  # 300 x 451
    artifact = made(head, "onnx-fp32", **over)
    ours = Detector(artifact.folder, conf=0.25)(photograph)
    (found,) = opened(artifact.model_path).predict(photograph[..., ::-1], conf=0.25, iou=0.7, verbose=False)
    assert found.names == dict(enumerate(CLASS_NAMES))
    assert len(found.boxes) > 50
    edges = np.abs(ours.boxes_px[None] - found.boxes.xyxy.numpy()[:, None]).max(axis=2)
    edges[ours.class_ids[None] != found.boxes.cls.numpy()[:, None]] = np.inf
    assert edges.min(axis=1).max() < 0.01
    assert np.abs(ours.scores[edges.argmin(axis=1)] - found.boxes.conf.numpy()).max() < 1e-4


@pytest.mark.parametrize(("mode", "error"), [(None, NotImplementedError), ("detect", ValueError)])
@pytest.mark.parametrize(
    ("target_name", "over", "reason"),
    [
        ("onnx-fp32", {}, REFUSED),
        ("openvino-fp32", {}, REFUSED),
        (
            "onnx-fp32",
            {"nms": "in_graph", "input": "uint8_nhwc"},
            "uint8 NHWC input (edgekd), which Ultralytics does not feed: ",
        ),
    ],
)
def test_what_the_engine_would_misread_is_refused(
    target_name: str,
    over: dict[str, Any],
    reason: str,
    mode: str | None,
    error: type[Exception],
    made: Any,
    tmp_path: Path,
) -> None:
    path = openable(made("dense", target_name, **over), tmp_path)
    with pytest.raises(error, match=re.escape(reason)):
        opened(path, mode).predict(images()[0], verbose=False)
    with pytest.raises(error, match=re.escape(reason)):
        opened(path, mode).val(data="coco8.yaml", verbose=False)


def test_formats_of_phones_refuse_too(tmp_path: Path) -> None:
    """The engine would multiply their boxes by the size of the input, or read other outputs than there are."""
    pytest.importorskip("ai_edge_litert", reason="the package ai_edge_litert is not installed")
    from tests.agent.tiny_mobile import write_litert

    path = write_litert(tmp_path / "tiny") / "model.tflite"
    images = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    before = [output.copy() for output in open_model("litert", path, 1, "fp32").run(images)]
    sidecar = Sidecar.model_validate(read_json(tmp_path / "tiny" / "edgekd.json"))
    append_to(path, sidecar)
    for output, expected in zip(open_model("litert", path, 1, "fp32").run(images), before, strict=True):
        np.testing.assert_array_equal(output, expected)
    with pytest.raises(NotImplementedError, match="litert model with outputs of edgekd, which Ultralytics misreads"):
        opened(path).predict(photographs(1, 8, 8)[0], verbose=False)
    write_beside(tmp_path, sidecar.model_copy(update={"runtime": "ncnn"}))
    assert read_metadata(tmp_path)["task"].startswith("ncnn model with outputs of edgekd")


def read_metadata(path: Path) -> Any:
    guard()
    from ultralytics.nn.backends.base import BaseBackend

    return BaseBackend.read_metadata(path)


def test_keys_of_the_metadata(made: Any) -> None:
    found = engine_metadata(made("dense", "onnx-fp32", layout="ultralytics", batch=4).sidecar)
    keys = ("task", "stride", "batch", "imgsz", "names", "channels", "end2end", "args")
    assert {key: found[key] for key in keys} == {
        "task": "detect", "stride": 32, "batch": 4, "imgsz": [256, 256], "channels": 3, "end2end": False,
        "names": {0: "bolt", 1: "nut", 2: "washer"}, "args": {"dynamic": False},
    }  # fmt: skip
    free_batch = made("end2end", "onnx-fp32", layout="ultralytics", batch="dynamic").sidecar
    assert (engine_metadata(free_batch)["args"], engine_metadata(free_batch)["end2end"]) == ({"dynamic": False}, True)
