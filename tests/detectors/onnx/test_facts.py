"""What is known of an ONNX file: its own metadata, and the JSON beside it, which comes first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.detectors.onnx.facts import Facts, read
from edgekd.errors import InputError

SIDECAR = {"class_names": ["a", "b"], "decode": "end2end", "channel_order": "BGR", "scale": 1.0}


def facts(folder: Path, metadata: dict[str, str], said: Any = None) -> tuple[Facts, bool]:
    if said is not None:
        (folder / "x.json").write_text(said if isinstance(said, str) else json.dumps(said))
    return read(folder / "x.onnx", metadata, "here")


def test_nothing_said(tmp_path: Path) -> None:
    assert facts(tmp_path, {"producer": "somebody", "names": "not a dict"}) == (Facts(), True)


def test_names_in_metadata(tmp_path: Path) -> None:
    found, may_have_grid = facts(tmp_path, {"names": "{0: 'cat', 1: \"dog's\"}"})
    assert found.classes == ["cat", "dog's"]
    assert may_have_grid


def test_the_sidecar_inside(tmp_path: Path) -> None:
    """Of a student that edgekd exported; which points it has is not in it."""
    metadata = {"edgekd": json.dumps(SIDECAR), "names": "{0: 'a', 1: 'b'}"}
    found, may_have_grid = facts(tmp_path, metadata)
    assert (found.classes, found.output, found.boxes) == (["a", "b"], "rows", "xyxy")
    assert (found.colours, found.highest) == ("bgr", 255.0)
    assert not may_have_grid


def test_the_json_comes_first(tmp_path: Path) -> None:
    said = {"classes": ["x", "y"], "strides": [8, 16], "offset": 0.0, "mean": [123.7, 116.3, 103.5], "highest": 255}
    found, may_have_grid = facts(tmp_path, {"edgekd": json.dumps(SIDECAR)}, said)
    assert (found.classes, found.strides, found.offset, found.highest) == (["x", "y"], [8, 16], 0.0, 255)
    assert found.colours == "bgr" and not may_have_grid


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"clases": ["a"]}, "x.json: clases: .*keys are classes, colours"),
        ({"classes": ["a", "a"]}, "a name stands there twice"),
        ({"classes": []}, "x.json: classes: "),
        ({"strides": [16, 8]}, "must rise"),
        ({"std": [0.0]}, "must be above 0"),
        ({"colours": "grey"}, "x.json: colours: "),
        ([1], "must be an object"),
        ("{", "cannot be read"),
    ],
)
def test_what_cannot_be(said: Any, fault: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        facts(tmp_path, {}, said)
    assert len(caught.value.problems) == 1
