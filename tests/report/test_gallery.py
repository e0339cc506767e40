from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from edgekd.report.collect import collect
from edgekd.report.files import RunFiles
from edgekd.report.gallery import Gallery, gallery
from tests.report.make_run import make_run

SIDE = 96


def shown(run: Path, examples: int = 6) -> Gallery:
    result = gallery(RunFiles(run), collect(run), examples)
    assert result is not None
    return result


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "quickstart", images=5)


def lines(run: Path, role: str) -> list[dict[str, list[object]]]:
    path = run / f"validate/{role}@host.detections.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_most_different_images_come_first_whoever_is_better(run: Path) -> None:
    truths = json.loads((run / "data/ground_truth-val.json").read_text())["images"]
    perfect = [
        {
            "image_id": t["image_id"],
            "boxes_px": t["boxes_px"],
            "scores": [0.9] * len(t["class_ids"]),
            "class_ids": t["class_ids"],
        }
        for t in truths
    ]
    nothing = {"boxes_px": [], "scores": [], "class_ids": []}
    student = [line if line["image_id"] != 4 else {"image_id": 4, **nothing} for line in perfect]  # worse on 4
    control = [
        line if line["image_id"] != 2 else {"image_id": 2, **nothing} for line in perfect
    ]  # better on 4, worse on 2
    for role, found in (("student", student), ("control", control)):
        text = "".join(json.dumps(line) + "\n" for line in found)
        (run / f"validate/{role}@host.detections.jsonl").write_text(text)
    objects = {t["image_id"]: len(t["class_ids"]) for t in truths}
    first, second = sorted((2, 4), key=lambda image_id: (-objects[image_id], image_id))
    titles = [example.title for example in shown(run, 3).examples]
    assert titles == [truths[first - 1]["file_name"], truths[second - 1]["file_name"], truths[0]["file_name"]]


def test_panels_count_right_false_and_missed(run: Path) -> None:
    result = shown(run)
    assert result.threshold == 0.25
    assert len(result.examples) == 5
    example = next(example for example in result.examples if example.title == "val-002.png")
    captions = {panel.role: panel.caption for panel in example.panels}
    assert list(captions) == ["truth", "teacher", "control", "student"]
    assert captions["truth"] == "5 objects"
    assert captions["teacher"] == "5 right, 0 false, 0 missed"
    assert captions["control"] == "2 right, 1 false, 3 missed"


def test_pixels_are_embedded_once_and_without_the_letterbox(run: Path) -> None:
    from PIL import Image

    example = next(example for example in shown(run).examples if example.title == "val-001.png")  # 192 x 144
    match = re.search(r'href="data:image/jpeg;base64,([^"]+)"', str(example.pixels))
    assert match
    image = Image.open(io.BytesIO(base64.b64decode(match[1])))
    assert image.size == (96, 72)
    assert not (np.abs(np.asarray(image, np.int16) - 114).max(-1) <= 2).all(axis=1).any()  # no grey padding row
    assert all("base64" not in str(panel.drawing) for panel in example.panels)
    assert all('viewBox="0 0 96 72"' in str(panel.drawing) for panel in example.panels)


def test_boxes_are_mapped_into_the_picture(run: Path) -> None:
    truths = json.loads((run / "data/ground_truth-val.json").read_text())["images"]
    x1, y1, x2, _ = truths[1]["boxes_px"][0]  # image of 192 x 144 px, scale 0.5
    example = next(example for example in shown(run).examples if example.title == "val-001.png")
    drawing = str(example.panels[0].drawing)
    wanted = [f"{value:.2f}".rstrip("0").rstrip(".") for value in (x1 / 2, y1 / 2, (x2 - x1) / 2)]
    assert re.search(r'<rect x="{}" y="{}" width="{}"'.format(*map(re.escape, wanted)), drawing)


def test_class_names_are_escaped_and_cut(run: Path) -> None:
    drawings = "".join(str(panel.drawing) for example in shown(run).examples for panel in example.panels)
    assert "<script" not in drawings
    assert "&lt;script&gt;alert…" in drawings


def test_no_control_no_problem(run: Path) -> None:
    (run / "validate/control@host.detections.jsonl").unlink()
    result = shown(run)
    assert [panel.role for panel in result.examples[0].panels] == ["truth", "teacher", "student"]
    assert "student and teacher" in result.rule


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels(run: Path, channels: int) -> None:
    path = run / "data/packs/val-0123456789ab.npy"
    np.save(path, np.zeros((5, SIDE, SIDE, channels), np.uint8))
    assert len(shown(run).examples) == 5


def test_nothing_to_show(run: Path) -> None:
    report = collect(run)
    assert gallery(RunFiles(run), report, 0) is None
    (run / "data/packs/val-0123456789ab.npy").unlink()
    assert gallery(RunFiles(run), report, 6) is None
