"""The artifact that would ship: curves, confusions and worst images; the change since a release; losses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekd.errors import InputError
from edgekd.gate import baseline
from edgekd.gate.baseline import Baseline
from edgekd.report.collect import collect
from edgekd.report.curves import training_curves
from edgekd.report.files import RunFiles
from edgekd.report.render import render
from edgekd.report.shipping import diagnosed, worst
from edgekd.report.since import comparable
from tests.report.make_run import make_run

BEST = "openvino-fp32@local"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = make_run(tmp_path / "run", images=5)
    shutil.copy(made / "validate/control@host.detections.jsonl", made / f"validate/{BEST}.detections.jsonl")
    return made


def shipping(run: Path) -> dict[str, Any]:
    found = diagnosed(RunFiles(run), collect(run))
    assert found is not None
    return found


class TestDiagnosed:
    def test_it_is_of_the_best_artifact_and_of_the_student_without_one(self, run: Path) -> None:
        assert shipping(run)["subject"] == BEST
        (run / f"validate/{BEST}.detections.jsonl").unlink()
        assert shipping(run)["subject"] == "student"
        (run / "validate/student@host.detections.jsonl").unlink()
        assert diagnosed(RunFiles(run), collect(run)) is None

    def test_counts_belong_together(self, run: Path) -> None:
        found = shipping(run)
        truths = json.loads((run / "data/ground_truth-val.json").read_text())["images"]
        matrix = found["matrix"]
        assert sum(map(sum, matrix[:-1])) == sum(len(image["boxes_px"]) for image in truths)
        right = sum(matrix[k][k] for k in range(len(matrix) - 1))
        objects = sum(map(sum, matrix[:-1]))
        assert found["curve"]["recall"][24] == pytest.approx(right / objects, abs=1e-4)
        assert found["curve"]["threshold"][24] == found["threshold"] == 0.25
        listed = {(row["truth"], row["found"]): row["count"] for row in found["confusions"]}
        assert listed[None, "one"] == matrix[-1][1] >= 5, "the control invents a 'one' in every image"
        assert found["best_f1"]["f1"] == max(found["curve"]["f1"])

    def test_an_edited_file_is_refused(self, run: Path) -> None:
        manifest = json.loads((run / "manifest.json").read_text())
        name = f"validate/{BEST}.detections.jsonl"
        manifest["stages"][f"validate/{BEST}"] = {"outputs": {name: "0" * 64}, "seconds": 1}
        (run / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(InputError, match="is not what stage"):
            shipping(run)

    def test_the_worst_image_comes_first(self, run: Path) -> None:
        found = worst(RunFiles(run), collect(run), 3)
        assert found is not None
        roles = [panel.role for panel in found.examples[0].panels]
        assert roles == ["truth", "artifact", "student", "control", "teacher"]
        captions = [example.panels[1].caption for example in found.examples]
        errors = [sum(map(int, re.findall(r"(\d+) (?:false|missed)", caption))) for caption in captions]
        assert errors == sorted(errors, reverse=True)
        assert errors[0] > 0

    def test_the_page_has_it(self, run: Path) -> None:
        report = render(run)
        page = (run / "report.html").read_text()
        assert f"What would ship: {BEST}" in page
        for title in ("Precision, recall, F1", "Precision over recall", "Calibration", "Confusions", "Worst images"):
            assert title in page
        assert json.loads((run / "report.json").read_text())["shipping"] == report["shipping"]
        assert "Worst images" not in _without_images(run)


def _without_images(run: Path) -> str:
    render(run, images=False)
    return (run / "report.html").read_text()


class TestSince:
    @pytest.fixture
    def released(self, run: Path, tmp_path: Path) -> Path:
        report = collect(run)
        rows = []
        for artifact in report["artifacts"][:3]:
            profile = json.loads((run / f"profile/{artifact['target']}@local.json").read_text())
            entry = baseline.entry(artifact, profile["environment"])
            rows.append(entry.model_copy(update={"ap": entry.ap - 0.01, "p50_ms": 2 * entry.p50_ms}))
        rows[0] = rows[0].model_copy(update={"fingerprint": "another"})
        rows.append(rows[2].model_copy(update={"target": "ncnn-fp16"}))
        split = report["data"]["splits"]["val"]["content_hash"]
        baseline.save(tmp_path / "store", Baseline(
            name="v1", saved="2026-01-31T12:00:00Z", recipe="quickstart", edgekd="0.1.0", data=split, student_ap=0.4,
            artifacts=tuple(rows),
        ))  # fmt: skip
        recipe = yaml.safe_load((run / "recipe.lock.yaml").read_text())
        recipe["gate"]["against"] = {"baseline": "v1", "store": str(tmp_path / "store")}
        (run / "recipe.lock.yaml").write_text(yaml.safe_dump(recipe))
        return run

    def test_each_artifact_says_what_changed(self, released: Path) -> None:
        since = collect(released)["since"]
        rows = {row["artifact"]: row for row in since["artifacts"]}
        assert (since["baseline"], since["same_data"], since["student_ap"]["before"]) == ("v1", True, 0.4)
        assert {name: row["state"] for name, row in rows.items()} == {
            "onnx-fp16@local": "both", "onnx-fp32@local": "both", "openvino-fp16@local": "both",
            "openvino-fp32@local": "new", "ncnn-fp16@local": "gone",
        }  # fmt: skip
        same, other = rows["onnx-fp32@local"], rows["onnx-fp16@local"]
        assert same["ap"]["now"] - same["ap"]["before"] == pytest.approx(0.01)
        assert comparable(same, "p50_ms")
        assert comparable(other, "ap")
        assert not comparable(other, "p50_ms")
        assert not comparable(rows["ncnn-fp16@local"], "ap")
        assert same["same_file"]

    def test_the_page_and_the_markdown_show_it(self, released: Path, tmp_path: Path) -> None:
        render(released)
        page, text = (released / "report.html").read_text(), (released / "report.md").read_text()
        assert "<h2>Since v1</h2>" in page
        assert str(tmp_path) not in page.split("Recipe, everything filled in")[0]
        assert "### Since v1" in text
        assert "(elsewhere)" in text

    def test_a_release_that_is_gone_is_no_error(self, released: Path, tmp_path: Path) -> None:
        shutil.rmtree(tmp_path / "store")
        assert collect(released)["since"] is None


def test_losses_and_learning_rate_are_drawn_where_they_were_written(run: Path) -> None:
    assert [figure.title for figure in training_curves(RunFiles(run))] == ["Losses on train"]
    lines = ["epoch,box_loss,cls_loss,val_box_loss,lr", "1,2,3,2.5,0.01", "2,1,2,1.5,0.005"]
    (run / "student/epochs.csv").write_text("\n".join(lines))
    figures = {figure.title: figure for figure in training_curves(RunFiles(run))}
    assert list(figures) == ["Losses on train", "Losses on val", "Learning rate"]
    assert [key.label for key in figures["Losses on train"].legend] == ["Control, box", "Student, box", "Student, cls"]
