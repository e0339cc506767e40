"""edgekd's AP against pycocotools' on the detections of the engine's own validation.

The model is untrained. Labels are therefore made from its own detections, moved a little, some of another
class: an AP far from 0 and 1, to which boxes, scores, NMS and letterboxing all matter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.data.config import DataSet, YoloData, load
from edgekd.data.digits import CLASS_NAMES
from edgekd.data.pack import Pack, build
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.devices import catalog, run_agent
from edgekd.export.contract import Source
from edgekd.export.targets import load_target, run_steps
from edgekd.measure.average_precision import evaluate
from edgekd.recipe.sections import ValidateRecipe
from edgekd.stages.accuracy import detect_in_torch
from edgekd.types import AveragePrecision, Detections, GroundTruth
from tests.data.odd_images import make_odd_set
from tests.measure import reference
from tests.stages.tiny import detector

SETTINGS = ValidateRecipe()


def labelled(images: Sequence[GroundTruth], found: Sequence[Detections]) -> list[GroundTruth]:
    """The best eight detections of each image, moved a little; every third is given another class."""
    rng = np.random.default_rng(0)
    truths = []
    for image, detections in zip(images, found, strict=True):
        sides = detections.boxes_px[:, 2:] - detections.boxes_px[:, :2]
        chosen = np.flatnonzero(sides.min(1) >= 4)[:8]
        moved = detections.boxes_px[chosen] + rng.normal(0, 0.04, (len(chosen), 4)) * np.tile(sides[chosen], 2)
        classes = detections.class_ids[chosen].copy()
        classes[1::3] = (classes[1::3] + 1) % len(CLASS_NAMES)
        truths.append(replace(
            image, boxes_px=moved.astype(np.float32), class_ids=classes, is_crowd=np.zeros(len(chosen), bool),
        ))  # fmt: skip
    return truths


def of_the_engine(
    built: UltralyticsDetector, data_yaml: Path, images: Sequence[GroundTruth], size_px: int, folder: Path
) -> list[dict[str, Any]]:
    """What `yolo val` writes to predictions.json, image names replaced by edgekd's ids."""
    from ultralytics import YOLO

    torch.save({"model": built.module, "train_args": {}}, folder / "model.pt")
    YOLO(folder / "model.pt").val(
        data=str(data_yaml), imgsz=size_px, save_json=True, rect=False, conf=SETTINGS.conf, iou=SETTINGS.iou,
        max_det=SETTINGS.max_det, batch=8, workers=0, device="cpu", plots=False, verbose=False,
        project=str(folder), name="val",
    )  # fmt: skip
    stems = [Path(image.file_name).stem for image in images]
    ids = {int(stem) if stem.isnumeric() else stem: image.image_id for stem, image in zip(stems, images, strict=True)}
    written = json.loads((folder / "val/predictions.json").read_text())
    return [{**entry, "image_id": ids[entry["image_id"]]} for entry in written]


def on_device(built: UltralyticsDetector, target: str, pack: Pack, folder: Path) -> list[Detections]:
    module: Any = built.export_module("one2many").eval()
    source = Source(
        module=module, decode=module.decode, class_names=CLASS_NAMES, channels=3, size_px=pack.size_px,
        size_multiple=32, sha256="0" * 64,
    )  # fmt: skip
    run_steps(source, load_target(target, {}, target), folder / target)
    with catalog.open_device(catalog.load("local")) as device:
        prediction = run_agent.predict(
            device, folder / target, pack.npy_path, conf=SETTINGS.conf, iou=SETTINGS.iou, max_det=SETTINGS.max_det
        )
    return [
        Detections(pack.restore(index, one.boxes_px), one.scores, one.class_ids)
        for index, one in enumerate(prediction.detections)
    ]


@pytest.fixture(params=[pytest.param("digits", marks=pytest.mark.slow), "odd"])
def data_yaml(request: pytest.FixtureRequest, tiny_digits: Path, tmp_path: Path) -> Path:
    return tiny_digits if request.param == "digits" else make_odd_set(tmp_path / "odd")


def test_with_yolo_val_and_between_runtimes(data_yaml: Path, tmp_path: Path) -> None:
    size_px = 96
    data: DataSet = load(YoloData(format="yolo", path=str(data_yaml), on_problem="skip"), tmp_path / "data", tmp_path)
    split, built = data.splits["val"], detector("yolo11n", spread=1.0)  # few scores that round to the same
    pack = build(split, (size_px, size_px), 3, tmp_path / "packs")
    found = detect_in_torch(built, "one2many", pack=pack, columns=None, settings=SETTINGS, title="torch")
    truths = labelled(split.images, found)

    def ap(detections: Sequence[Detections]) -> AveragePrecision:
        by_image = {truth.image_id: one for truth, one in zip(truths, detections, strict=True)}
        return evaluate(truths, by_image, CLASS_NAMES)

    ours = ap(found)
    results = of_the_engine(built, data_yaml, truths, size_px, tmp_path)
    theirs = reference.evaluation_of(truths, results, CLASS_NAMES).stats
    assert 0.1 < theirs[0] < 0.9
    for key, value in zip(("ap", "ap50", "ap75"), theirs[:3], strict=True):
        assert getattr(ours, key) == pytest.approx(value, abs=1e-3), key
    for target in ("onnx-fp32", "openvino-fp32"):
        assert ap(on_device(built, target, pack, tmp_path)).ap == pytest.approx(ours.ap, abs=1e-3), target
