"""Data sets of two tiny pictures per split, to be spoilt by tests, and ways to read them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgekd.data import problems
from edgekd.data.config import CocoData, DataSet, YoloData, load


def picture(path: Path, width: int = 40, height: int = 20, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def label(root: Path, split: str, stem: str, *lines: str) -> None:
    path = root / "labels" / split / f"{stem}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def yolo_set(root: Path, text: str = "names: [ant, bee, cat]\n") -> Path:
    """Two pictures of 40 x 20 px per split, one box each."""
    for number, split in enumerate(("train", "val")):
        for stem in ("a", "b"):
            picture(root / "images" / split / f"{stem}.png", seed=2 * number + (stem == "b"))
            label(root, split, stem, "1 0.5 0.5 0.5 0.5")
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\n{text}", encoding="utf-8")
    return root


def read_yolo(root: Path, tmp_path: Path, on_problem: problems.OnProblem = "error", name: str = "data.yaml") -> DataSet:
    config = YoloData(format="yolo", path=name, on_problem=on_problem)
    return load(config, tmp_path / "run", root)


def counts(data: DataSet) -> dict[tuple[str, str], int]:
    return {(problem.split, problem.kind): problem.count for problem in data.problems}


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def coco_content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 20, "file_name": "b.png", "height": 20, "width": 40},
            {"id": 10, "file_name": "sub/a.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 20, "category_id": 90, "bbox": [1, 2, 3, 4], "iscrowd": 0},
            {"id": 2, "image_id": 20, "category_id": 5, "bbox": [0, 0, 40, 20], "iscrowd": 1},
            {"id": 3, "image_id": 10, "category_id": 7, "bbox": [30.5, 10, 10, 10]},
        ],
        "categories": [{"id": 90, "name": "cat"}, {"id": 5, "name": "ant"}, {"id": 7, "name": "bee"}],
    }


def coco_set(root: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> CocoData:
    """Train is changed by `change`, val stays sound."""
    for seed, name in enumerate(("train/sub/a.png", "train/b.png", "val/sub/a.png", "val/b.png")):
        picture(root / "images" / name, seed=seed)
    changed = copy.deepcopy(coco_content())
    change(changed)
    (root / "train.json").write_text(json.dumps(changed))
    (root / "val.json").write_text(json.dumps(coco_content()))
    parts = {split: {"images": f"images/{split}", "annotations": f"{split}.json"} for split in ("train", "val")}
    return CocoData.model_validate({"format": "coco", **parts})


def skipping(config: CocoData) -> CocoData:
    return config.model_copy(update={"on_problem": "skip"})
