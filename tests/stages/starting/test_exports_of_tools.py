"""What labelling tools export, in small: the layouts of docs/from-labelling-tools.md, and the commands of that page."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgekd.data import config as data_config
from edgekd.data.config import DataSet
from edgekd.errors import InputError
from edgekd.stages.binding import bind_recipe
from edgekd.stages.starting.data import section

PAGE = Path(__file__).parents[3] / "docs" / "from-labelling-tools.md"


def image(path: Path) -> None:
    """32 px, unlike every other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (len(str(path)), sum(path.name.encode()) % 256, 0)).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def coco(path: Path, names: Sequence[str], *, root: bool = False) -> None:
    """One box of class `car` in each image."""
    categories = [{"id": 0, "name": "vehicles", "supercategory": "none"}] if root else []
    categories += [{"id": 1, "name": "car", "supercategory": "vehicles" if root else ""}]
    content: dict[str, Any] = {
        "images": [{"id": i, "file_name": name, "width": 32, "height": 32} for i, name in enumerate(names, 1)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [4, 4, 16, 16], "area": 256, "iscrowd": 0}
            for i in range(1, len(names) + 1)
        ],
        "categories": categories,
    }
    write(path, json.dumps(content))


def look(folder: Path, given: str) -> DataSet:
    """As `edgekd init` does."""
    content = {"name": "look", "data": section(str(folder / given), folder), "student": {"model": "yolo11n"}}
    return data_config.load(bind_recipe(folder / "look.yaml", (), folder, content).data, folder / ".look", folder)


def counts(found: DataSet) -> dict[str, tuple[int, int]]:
    """Split -> images, objects."""
    return {name: (one.as_json()["images"], one.as_json()["objects"]) for name, one in found.summaries.items()}


def command_of_the_page(containing: str) -> str:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if containing in block)


def shell(command: str, folder: Path) -> None:
    subprocess.run(["sh", "-e", "-c", command], cwd=folder, check=True, capture_output=True)


def test_roboflow_yolo(tmp_path: Path) -> None:
    """Its paths begin with `../`, and mean folders beside the data.yaml."""
    for split in ("train", "valid", "test"):
        image(tmp_path / split / "images" / f"{split}_jpg.rf.1a2b.jpg")
        write(tmp_path / split / "labels" / f"{split}_jpg.rf.1a2b.txt", "0 0.5 0.5 0.5 0.5\n")
    head = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 1\nnames: ['car']\n\n"
    about = "roboflow:\n  workspace: w\n  project: p\n  version: 1\n  license: CC BY 4.0\n"
    write(tmp_path / "data.yaml", head + about)
    found = look(tmp_path, "data.yaml")
    assert found.class_names == ("car",)
    assert counts(found) == {"train": (1, 1), "val": (1, 1), "test": (1, 1)}


def test_roboflow_coco(tmp_path: Path) -> None:
    """A heading stands among the categories, which no annotation has."""
    for split in ("train", "valid", "test"):
        image(tmp_path / split / f"{split}.jpg")
        coco(tmp_path / split / "_annotations.coco.json", [f"{split}.jpg"], root=True)
    found = look(tmp_path, "train/_annotations.coco.json")
    assert found.class_names == ("car",)
    assert counts(found) == {"train": (1, 1), "val": (1, 1), "test": (1, 1)}


@pytest.mark.parametrize("prefix", ["", "data/"])
def test_cvat_yolo(prefix: str, tmp_path: Path) -> None:
    """Some versions write `data/` before each image of a list; the page says how to take it off."""
    for split in ("train", "val"):
        image(tmp_path / "images" / split / "1.jpg")
        write(tmp_path / "labels" / split / "1.txt", "0 0.5 0.5 0.5 0.5\n")
        write(tmp_path / f"{split}.txt", f"{prefix}images/{split}/1.jpg\n")
    write(tmp_path / "data.yaml", "path: ./\ntrain: train.txt\nval: val.txt\nnames:\n  0: car\n")
    if prefix:
        with pytest.raises(InputError, match="missing image: 1 found"):
            look(tmp_path, "data.yaml")
        shell(command_of_the_page("^data/"), tmp_path)
    assert counts(look(tmp_path, "data.yaml")) == {"train": (1, 1), "val": (1, 1)}


def test_cvat_coco(tmp_path: Path) -> None:
    """Subsets are called as CVAT calls them."""
    for split in ("Train", "Validation"):
        image(tmp_path / "images" / split / f"{split}.jpg")
        coco(tmp_path / "annotations" / f"instances_{split}.json", [f"{split}.jpg"])
    found = look(tmp_path, "annotations/instances_Train.json")
    assert counts(found) == {"train": (1, 1), "val": (1, 1)}


def test_cvat_coco_without_subsets(tmp_path: Path) -> None:
    image(tmp_path / "images" / "default" / "1.jpg")
    coco(tmp_path / "annotations" / "instances_default.json", ["1.jpg"])
    with pytest.raises(InputError, match="no annotations of a val split beside it"):
        look(tmp_path, "annotations/instances_default.json")


def test_label_studio_yolo(tmp_path: Path) -> None:
    """It has neither a data.yaml nor splits: a few commands of the page make both."""
    for number in range(10):
        image(tmp_path / "images" / f"{number}.jpg")
        write(tmp_path / "labels" / f"{number}.txt", "1 0.5 0.5 0.5 0.5\n")
    write(tmp_path / "classes.txt", "bus\ncar\n")
    write(tmp_path / "notes.json", "{}")
    shell(command_of_the_page("classes.txt"), tmp_path)
    found = look(tmp_path, "data.yaml")
    assert found.class_names == ("bus", "car")
    assert counts(found) == {"train": (8, 8), "val": (2, 2)}


def test_label_studio_coco(tmp_path: Path) -> None:
    names = [f"images/{number}.jpg" for number in range(10)]
    for name in names:
        image(tmp_path / name)
    coco(tmp_path / "result.json", names)
    shell(command_of_the_page("result.json"), tmp_path)
    assert counts(look(tmp_path, "train.json")) == {"train": (8, 8), "val": (2, 2)}
