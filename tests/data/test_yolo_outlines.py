"""The YOLO layout: lines of more than five columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.data.config import DataSet
from edgekd.errors import InputError
from tests.data.small_sets import label, read_yolo, yolo_set


class TestOutlines:
    """Lines of more than five columns: polygons, key points or rotated boxes."""

    def read(
        self, tmp_path: Path, *lines: str, split: str = "train", text: str = "names: [ant, bee, cat]\n"
    ) -> DataSet:
        root = yolo_set(tmp_path / "set", text)
        label(root, split, "a", *lines)
        (root / f"labels/{split}/b.txt").unlink()
        return read_yolo(root, tmp_path)

    def test_key_points_with_visibility_are_certain(self, tmp_path: Path) -> None:
        line = "1 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 0"
        with pytest.raises(InputError) as caught:
            self.read(tmp_path, line)
        assert caught.value.problems[0].endswith(
            "train: label line with key points that the data.yaml does not state: 1 found, e.g. labels/train/a.txt:1 "
            "(a box and 2 key points, kpt_shape: [2, 3]); state kpt_shape in the data.yaml or set data.on_problem: skip"
        )
        stated = self.read(tmp_path / "stated", line, text="names: [ant, bee]\nkpt_shape: [2, 3]\n")
        assert stated.splits["train"].images[0].boxes_px.tolist() == [[12, 6, 28, 14]]

    def test_an_even_number_of_columns_is_explained(self, tmp_path: Path) -> None:
        found = ("1 0.5 0.5 0.4 0.4 0.4 0.4 2", "1 0.5 0.5 0.4 0.4 0.3", "1 0 0 1 0 1 1 0 1 1", "1 0.5 0.5 0.4")
        with pytest.raises(InputError) as caught:
            self.read(tmp_path, *found)
        for said in (
            "a.txt:1 (8 columns; a box and 1 key point, kpt_shape: [1, 3])",
            "a.txt:2 (6 columns; a score or an angle behind the box?)",
            "a.txt:3 (10 columns; corners of a rotated box before the class?)",
            "a.txt:4 (4 columns)",
        ):
            assert said in caught.value.problems[0]

    def test_many_boxes_with_points_inside_are_no_polygons(self, tmp_path: Path) -> None:
        lines = [f"1 0.5 0.5 0.{n} 0.4 0.45 0.4 0.55 0.6 0.5 0.{n}" for n in range(40, 51)]
        few = self.read(tmp_path, *lines[:3])
        assert few.warnings[0] == (
            "train: labels/train/a.txt:1 (a box and 3 key points, kpt_shape: [3, 2]): read as polygons; if these are "
            "key points, state kpt_shape"
        )
        with pytest.raises(InputError, match=r"key points that the data\.yaml does not state: 11 found"):
            self.read(tmp_path / "many", *lines)

    def test_polygons_are_left_alone(self, tmp_path: Path) -> None:
        lines = [f"1 0.{n} 0.4 0.{n} 0.5 0.{n + 9} 0.5 0.{n + 9} 0.4 0.{n + 5} 0.3" for n in range(20, 70)]
        data = self.read(tmp_path, *lines)
        assert len(data.splits["train"].images[0].boxes_px) == 50
        assert not any("key point" in warning for warning in data.warnings)

    def test_four_corners_everywhere_are_named(self, tmp_path: Path) -> None:
        line = "1 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5"
        data = self.read(tmp_path, line)
        assert data.warnings[0] == (
            "train: all 1 labels have four corners, as rotated boxes have; the upright box around each is taught"
        )
        assert data.splits["train"].images[0].boxes_px.tolist() == [[10, 5, 30, 15]]
        mixed = self.read(tmp_path / "mixed", line, "1 0.5 0.5 0.1 0.1")
        assert not any("corners" in warning for warning in mixed.warnings)

    def test_stated_key_points_bind_the_number_of_columns(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"a\.txt:1 \(7 columns; kpt_shape allows 5 or 11\)"):
            self.read(tmp_path, "1 0.1 0.1 0.2 0.1 0.2 0.2", text="names: [ant, bee]\nkpt_shape: [2, 3]\n")
