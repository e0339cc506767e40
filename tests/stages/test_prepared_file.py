"""What is said of a preparation's file that does not belong to a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.detectors import described
from edgekd.stages.prepared_file import SCHEMA, problem_of

WANTED: dict[str, Any] = {
    "schema": SCHEMA, "method": "unikd", "config": {"queries": 6, "taps": "neck"}, "class_names": ["cat", "dog"],
    "teacher": {"name": "yolo11n", "weights": "0123456789abcdef"}, "train_images": "a",
}  # fmt: skip


def said(folder: Path, **changes: Any) -> str | None:
    """Of a file that differs so from what is wanted."""
    described.write(torch.nn.Linear(1, 1), folder / "prepared.safetensors", {**WANTED, **changes})
    return problem_of(folder / "prepared.safetensors", WANTED)


def test_the_very_file_is_taken(tmp_path: Path) -> None:
    assert said(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "gdetkd"}, "method gdetkd, here it is unikd"),
        ({"class_names": ["cat"]}, "classes cat (1), here they are cat, dog (2)"),
        ({"class_names": list("abcdefg")}, "classes a, b, c, d, e ... (7), here they are cat, dog (2)"),
        ({"train_images": "b"}, "other train images or labels"),
        ({"class_names": ["dog", "cat"], "train_images": "b"}, "classes dog, cat (2), here they are cat, dog (2)"),
        (
            {"teacher": {"name": "yolo11x", "weights": "fedcba9876543210"}},
            "teacher yolo11x (fedcba987654), here it is yolo11n (0123456789ab)",
        ),
        (
            {"teacher": {"name": "both", "weights": {"a": "1"}}},
            "teacher both (a 1), here it is yolo11n (0123456789ab)",
        ),
        (
            {"config": {"queries": 8, "teacher_taps": "neck"}},
            "queries: 8, here it is 6; teacher_taps: neck, here it is None; taps: None, here it is neck",
        ),
    ],
)  # fmt: skip
def test_what_differs_is_said(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert said(tmp_path, **changes) == f"was prepared for {expected}"


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        ([*"abcdefgh"], [*"abcdefgx"], "classes ... h (8), here they are ... x (8)"),
        ([*"abcdefghijklm"], [*"abcdefghi"], "classes ... j, k, l, m (13), here they are ... (9)"),
        ([*"abcdexxxxxxx"], [*"abcdeyyyyyyy"],
         "classes ... x, x, x, x, x ... (12), here they are ... y, y, y, y, y ... (12)"),
    ],
)  # fmt: skip
def test_classes_that_differ_late_are_shown(tmp_path: Path, theirs: list[str], ours: list[str], expected: str) -> None:
    described.write(torch.nn.Linear(1, 1), tmp_path / "prepared.safetensors", {**WANTED, "class_names": theirs})
    said = problem_of(tmp_path / "prepared.safetensors", {**WANTED, "class_names": ours})
    assert said == f"was prepared for {expected}"


def test_what_is_no_such_file(tmp_path: Path) -> None:
    none = "is no file that 'edgekd prepare' left (RUN/prepare/METHOD/prepared.safetensors)"
    assert said(tmp_path, schema="edgekd.detector/1") == none
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "prepared.safetensors").read_bytes()[:40])
    assert problem_of(tmp_path / "torn.safetensors", WANTED) == none
    assert problem_of(tmp_path / "missing.safetensors", WANTED) == "there is no such file"
