"""A file of detections on the images of the data: which image, which class, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.detectors import families
from edgekd.detectors.capture import run
from edgekd.detectors.contract import Asked
from edgekd.detectors.predictions.detector import FileOfDetections
from edgekd.detectors.predictions.results import read
from edgekd.detectors.spec import DetectionsHead, Needs
from edgekd.errors import InputError
from edgekd.types import GroundTruth, Split
from tests.detectors.predictions.test_results import written

NAMES = ("cat", "dog")


def split(name: str, *files: str, first: int = 1) -> Split:
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    images = [GroundTruth(first + place, file, 50, 100, *nothing) for place, file in enumerate(files)]
    return Split(name, f"/set/images/{name}", images, "hash")


def row(image: int | str, score: float = 0.5, category: int = 0, bbox: Any = (10, 10, 20, 20)) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(bbox), "score": score}


def opened(folder: Path, rows: list[dict[str, Any]], categories: Any = None) -> FileOfDetections:
    content = rows if categories is None else {"annotations": rows, "categories": categories}
    return FileOfDetections(read(written(folder, content), "here"), NAMES, 3, "here")


def test_images_by_name(tmp_path: Path) -> None:
    """With suffix or without, with as much of the path as is given; a number is the name's."""
    splits = {"val": split("val", "000001.png", "deep/b.c.png"), "test": split("test", "000002.png")}
    rows = [row(1), row("000001.png", 0.9), row("val/000001", 0.7), row("b.c", 0.8), row("deep/b.c.png"), row(2)]
    found = opened(tmp_path, [*rows, row("of another set")]).on(splits, set(), (0, 1))
    assert [len(one) for one in found["val"]] == [3, 2]
    assert [len(one) for one in found["test"]] == [1]
    np.testing.assert_allclose(found["val"][0][:, 4], [0.9, 0.7, 0.5])


def test_images_by_number(tmp_path: Path) -> None:
    """Where a split has numbers of its own, its names do not count."""
    splits = {"val": split("val", "000001.png", first=30), "unlabelled": split("unlabelled", "000031.png")}
    found = opened(tmp_path, [row(30), row(31), row(1)]).on(splits, {"val"}, (0, 1))
    assert ([len(one) for one in found["val"]], [len(one) for one in found["unlabelled"]]) == ([1], [1])


def test_a_name_of_two_images_is_refused(tmp_path: Path) -> None:
    splits = {"train": split("train", "000001.png"), "val": split("val", "000001.png")}
    for name in (1, "000001.png"):
        with pytest.raises(InputError, match=r"may be an image of train or of val.*\(train/000001\.png\)"):
            opened(tmp_path, [row(name)]).on(splits, set(), (0, 1))
    found = opened(tmp_path, [row("val/000001.png")]).on(splits, set(), (0, 1))
    assert ([len(one) for one in found["train"]], [len(one) for one in found["val"]]) == ([0], [1])


def test_boxes_and_classes(tmp_path: Path) -> None:
    """Best first, cut off at the image of 100 x 50 px; classes by the ids of the data, or of the file."""
    rows = [row(1, 0.2, 7), row(1, 0.6, 5, (-5, 40, 200, 20))]
    (found,) = opened(tmp_path, rows).on({"val": split("val", "1.png")}, set(), (5, 7))["val"]
    np.testing.assert_allclose(found, [[0, 40, 100, 50, 0.6, 0], [10, 10, 30, 30, 0.2, 1]], rtol=1e-6)
    named = opened(tmp_path, rows, [{"id": 7, "name": "wolf"}, {"id": 5, "name": "dog"}])
    assert named.spec.class_names == ("dog", "wolf")
    (found,) = named.on({"val": split("val", "1.png")}, set(), ())["val"]
    assert found[:, 5].tolist() == [0, 1]


@pytest.mark.parametrize("bbox", [(100, 0, 5, 5), (0, 50, 5, 5), (-9, 0, 9, 5), (0, -9, 5, 9)])
def test_a_box_outside_is_refused(bbox: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lies outside of its image 1\.png of 100x50 px"):
        opened(tmp_path, [row(1), row(1, bbox=bbox)]).on({"val": split("val", "1.png")}, set(), (0, 1))


def test_what_it_is_and_is_not(tmp_path: Path) -> None:
    path = written(tmp_path, [row(1)])
    detector = families.open_detector("predictions", Asked(None, path, NAMES, 3, "here"))
    spec = detector.spec
    assert (spec.name, spec.class_names, spec.taps, spec.traceable) == ("found.json", NAMES, (), False)
    assert isinstance(spec.head, DetectionsHead)
    output = run(detector, torch.zeros(1, 3, 32, 32), Needs(parts=frozenset({"boxes", "class_logits"})))
    assert (dict(output.dense), output.queries, dict(output.taps)) == ({}, None, {})
    with pytest.raises(InputError, match="cannot look at other images"):
        detector.export_module()
    with pytest.raises(InputError, match="has no layers"):
        detector.head_tail("boxes", 0, 0, "one2many")
    with pytest.raises(InputError, match="can teach, but not be trained"):
        families.trainable(detector, "here")
    assert families.meant(None, path) != "predictions"
