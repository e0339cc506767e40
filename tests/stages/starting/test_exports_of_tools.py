"""What labelling tools export, in small: the layouts of docs/from-labelling-tools.md, and the commands of that page."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
    pattern = np.random.default_rng(list("/".join(path.parts[-4:]).encode())).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pattern).resize((32, 32), Image.Resampling.NEAREST).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def coco(path: Path, names: Sequence[str]) -> None:
    """One box of class `car` in each image."""
    content: dict[str, Any] = {
        "images": [{"id": i, "file_name": name, "width": 32, "height": 32} for i, name in enumerate(names, 1)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [4, 4, 16, 16], "area": 256, "iscrowd": 0}
            for i in range(1, len(names) + 1)
        ],
        "categories": [{"id": 1, "name": "car", "supercategory": ""}],
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


@pytest.mark.parametrize("ahead", ["../", "street-1/"])
def test_roboflow_yolo(ahead: str, tmp_path: Path) -> None:
    """As in public exports of 2025: paths begin with `../` and mean folders beside the data.yaml; `test` was not made.

    Some images have boxes, others polygons. With the name of the folder ahead, as the `roboflow` package 1.7.3 rewrites
    YOLOv5 exports that it downloads.
    """
    folder = tmp_path / "street-1"
    for split in ("train", "valid"):
        for name, text in (("a", "0 0.5 0.5 0.5 0.5"), ("b", "0 0.25 0.25 0.75 0.25 0.75 0.5")):
            image(folder / split / "images" / f"{split}_{name}_jpg.rf.1a2b.jpg")
            write(folder / split / "labels" / f"{split}_{name}_jpg.rf.1a2b.txt", text)
    paths = f"train: {ahead}train/images\nval: {ahead}valid/images\ntest: {ahead}test/images\n\n"
    about = (
        "roboflow:\n  workspace: w\n  project: p\n  version: 1\n  license: CC BY 4.0\n  url: https://u/w/p/dataset/1"
    )
    write(folder / "data.yaml", f"{paths}nc: 1\nnames: ['car']\n\n{about}")
    write(folder / "README.dataset.txt", "of the project\n")
    write(folder / "README.roboflow.txt", "of the version\n")
    found = look(folder, "data.yaml")
    assert found.class_names == ("car",)
    assert counts(found) == {"train": (2, 2), "val": (2, 2)}
    assert found.problems == ()
    assert [one.boxes_px.tolist() for one in found.splits["train"].images] == [[[8, 8, 24, 24]], [[8, 8, 24, 16]]]


def test_roboflow_coco(tmp_path: Path) -> None:
    """As in public exports of 2021 to 2026: a heading that no annotation has; of polygons, sizes stand in quotes."""
    for split in ("train", "valid", "test"):
        name = f"{split}_jpg.rf.1a2b.jpg"
        image(tmp_path / split / name)
        annotation = {"id": 0, "image_id": 0, "category_id": 1, "area": 256, "iscrowd": 0}
        outline = {"bbox": [4, 4, "16.0000", "16.0000"], "segmentation": [[4, 4, 20, 4, 20, 20]]}
        content = {
            "info": {"year": "2026", "version": "1", "description": "Exported from roboflow.com"},
            "licenses": [{"id": 1, "url": "", "name": "Unknown"}],
            "categories": [
                {"id": 0, "name": "cars-Qso2", "supercategory": "none"},
                {"id": 1, "name": "car", "supercategory": "cars-Qso2"},
            ],
            "images": [
                {"id": 0, "license": 1, "file_name": name, "height": 32, "width": 32, "extra": {"name": "train.jpg"}}
            ],
            "annotations": [annotation | outline],
        }
        write(tmp_path / split / "_annotations.coco.json", json.dumps(content))
    found = look(tmp_path, "train/_annotations.coco.json")
    assert found.class_names == ("car",)
    assert counts(found) == {"train": (1, 1), "val": (1, 1), "test": (1, 1)}
    assert found.splits["train"].images[0].boxes_px.tolist() == [[4, 4, 20, 20]]


@pytest.mark.parametrize("prefix", ["", "data/"])
@pytest.mark.parametrize("subsets", [("Train", "Validation"), ("train", "val")])
def test_cvat_yolo(subsets: tuple[str, str], prefix: str, tmp_path: Path) -> None:
    """As CVAT's fork of Datumaro 0.3 writes it: subsets as the user called them, `data/` before the images of a list.

    An image without a box has no label file. CVAT's own page shows lists without the prefix.
    """
    for split in subsets:
        image(tmp_path / "images" / split / "cam" / "0.jpg")
        image(tmp_path / "images" / split / "cam" / "1.jpg")
        write(tmp_path / "labels" / split / "cam" / "0.txt", "1 0.500000 0.500000 0.500000 0.500000\n")
        write(tmp_path / f"{split}.txt", "".join(f"{prefix}images/{split}/cam/{number}.jpg\n" for number in (0, 1)))
    lists = "".join(f"{split}: {split}.txt\n" for split in subsets)
    write(tmp_path / "data.yaml", f"{lists}names:\n  0: bus\n  1: car\npath: .\n")
    found = look(tmp_path, "data.yaml")
    assert found.class_names == ("bus", "car")
    assert counts(found) == {"train": (2, 1), "val": (2, 1)}


def test_cvat_darknet(tmp_path: Path) -> None:
    write(tmp_path / "obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    write(tmp_path / "obj.names", "car\n")
    with pytest.raises(InputError, match=r"obj\.data is Darknet's layout .*export as docs/from-labelling-tools"):
        look(tmp_path, ".")


def test_cvat_coco(tmp_path: Path) -> None:
    """As in public exports of CVAT, and as its fork of Datumaro 0.3 writes it: subsets as CVAT's form proposes them."""
    for split in ("Train", "Validation"):
        image(tmp_path / "images" / split / "cam" / f"{split}.jpg")
        coco(tmp_path / "annotations" / f"instances_{split}.json", [f"cam/{split}.jpg"])
    found = look(tmp_path, "annotations/instances_Train.json")
    assert counts(found) == {"train": (1, 1), "val": (1, 1)}


def test_cvat_coco_without_subsets(tmp_path: Path) -> None:
    image(tmp_path / "images" / "default" / "1.jpg")
    coco(tmp_path / "annotations" / "instances_default.json", ["1.jpg"])
    with pytest.raises(InputError, match="no annotations of a val split beside it"):
        look(tmp_path, "annotations/instances_default.json")


def test_label_studio_yolo(tmp_path: Path) -> None:
    """As label-studio-sdk 2.1.2 writes it where labels have a `category`: names in another order than their ids.

    An image without a box has an empty label file. There is neither a data.yaml nor a split: the page's commands make
    both.
    """
    for number in range(10):
        image(tmp_path / "images" / f"{number}f-street {number}.jpg")
        text = "" if number == 2 else "1 0.5 0.5 0.5 0.5\n"
        write(tmp_path / "labels" / f"{number}f-street {number}.txt", text)
    names = ((1, "car: red"), (0, "bus"), (2, "no"))
    write(tmp_path / "classes.txt", "".join(f"{name}\n" for _, name in names))
    notes = {"categories": [{"id": number, "name": name} for number, name in names], "info": {"version": "1.0"}}
    write(tmp_path / "notes.json", json.dumps(notes))
    with pytest.raises(InputError, match=r"Label Studio's exports have no splits: .*docs/from-labelling-tools\.md"):
        look(tmp_path, ".")
    shell(command_of_the_page("notes.json"), tmp_path)
    found = look(tmp_path, "data.yaml")
    assert found.class_names == ("bus", "car: red", "no")
    assert counts(found) == {"train": (8, 7), "val": (2, 2)}
    assert found.problems == ()


@pytest.mark.parametrize("folder", ["images/", "images\\", "../../media/upload/7/"])
def test_label_studio_coco(folder: str, tmp_path: Path) -> None:
    """As label-studio-sdk 2.1.2 writes it: uploaded images by their path there, and one that two people labelled twice.

    Other images are in `images/` by name, on Windows with its sign between.
    """
    names = [f"{number}f-street.jpg" for number in range(10)]
    for name in names:
        image(tmp_path / "images" / name)
    coco(tmp_path / "result.json", [f"{folder}{name}" for name in (*names[:3], *names[2:])])
    shell(command_of_the_page("result.json"), tmp_path)
    found = look(tmp_path, "train.json")
    assert counts(found) == {"train": (8, 8), "val": (2, 2)}
    assert [one.file_name for one in found.splits["val"].images] == ["images/4f-street.jpg", "images/9f-street.jpg"]
