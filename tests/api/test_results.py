"""A run directory read in Python: the shared tiny run, and one that is not finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import edgekd
from edgekd.api.detections import Detections
from edgekd.testing.artifacts import QUADRANTS_PX, expected_scores, make_images, write_artifact
from tests.stages.tiny import lines, read

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)
NAME = "onnx-fp32@local"


class TestRun:
    def test_what_was_measured(self, whole: Whole) -> None:
        run, report = edgekd.Run(whole.run), read(whole.run / "report.json")
        models = ["teacher", "control", "student", NAME, "openvino-fp32@local"]
        assert list(run.ap) == models
        assert run.ap["student"] == report["student"]["ap"]
        assert run.ap[NAME] == read(whole.run / f"validate/{NAME}.json")["ap"]
        assert run.gain == report["gain"]["ap"]
        unlike = {"manifest": None, "shipping": None}
        assert {**run.summary, **unlike} == {**report, **unlike}
        assert run.verdict.as_json() == read(whole.run / "verdict.json")
        assert run.report == whole.run / "report.html"
        assert list(run.stages) == list(read(whole.run / "manifest.json")["stages"])
        assert run.recipe["train"] == edgekd.Recipe.load(whole.recipe)["train"] | {"epochs": 1}

    def test_samples_of_latency_are_the_raw_ones(self, whole: Whole) -> None:
        found = edgekd.Run(whole.run).latency(NAME)
        samples = [event for event in lines(whole.run / f"profile/{NAME}.jsonl") if event["event"] == "samples"]
        whole_ns = [value for event in samples for value in event["end_to_end_ns"]]
        assert set(found) == {"pre", "inference", "post", "end_to_end"}
        assert np.array_equal(found["end_to_end"], np.array(whole_ns) / 1e6)

    def test_detections_and_labels_are_by_image(self, whole: Whole) -> None:
        run = edgekd.Run(whole.run)
        first = lines(whole.run / f"validate/{NAME}.detections.jsonl")[0]
        truth = read(whole.run / "data/ground_truth-val.json")["images"]
        file = next(image["file_name"] for image in truth if image["image_id"] == first["image_id"])
        found = run.detections(NAME)
        assert len(found) == len(truth)
        assert np.allclose(found[file].xyxy, first["boxes_px"])
        assert found[file].names[0] == run.class_names[first["class_ids"][0]]
        assert len(run.detections("student")) == len(truth)
        assert sum(map(len, run.labels().values())) == sum(len(image["boxes_px"]) for image in truth)

    def test_an_artifact_is_loaded_and_finds_what_was_validated(self, whole: Whole) -> None:
        run = edgekd.Run(whole.run)
        file, expected = next(iter(run.detections(NAME).items()))
        predictor = run.artifacts["onnx-fp32"].load(conf=0.001)
        found = predictor.predict(whole.data / "images" / "val" / Path(file).name)
        assert len(found) == len(expected)
        assert np.allclose(found.xyxy, expected.xyxy, atol=0.01)
        assert np.allclose(found.confidence, expected.confidence, atol=1e-4)

    def test_notebooks_show_it(self, whole: Whole) -> None:
        shown = edgekd.Run(whole.run)._repr_html_()
        assert shown.count("<table>") >= 2
        assert NAME in shown

    def test_a_file_that_was_edited_is_refused(self, run: Path) -> None:
        path = run / f"validate/{NAME}.detections.jsonl"
        path.write_text(path.read_text() + "\n")
        with pytest.raises(edgekd.InputError, match="is not what stage 'validate/onnx-fp32@local' wrote"):
            edgekd.Run(run).detections(NAME)

    def test_what_is_missing_is_named_and_what_is_there_too(self, run: Path) -> None:
        manifest = read(run / "manifest.json")
        for stage in [
            name for name in manifest["stages"] if name.startswith(("validate", "profile", "gate", "report"))
        ]:
            del manifest["stages"][stage]
        (run / "manifest.json").write_text(json.dumps(manifest))
        for folder in ("validate", "profile"):
            shutil.rmtree(run / folder)
        (run / "verdict.json").unlink()
        found = edgekd.Run(run)
        with pytest.raises(edgekd.InputError) as caught:
            found.latency(NAME)
        assert str(caught.value) == (
            f"{run}: stage 'profile/{NAME}' has not been done (profile/{NAME}.jsonl is missing); run 'edgekd profile "
            f"{run}'; done, and to be read all the same: {', '.join(found.stages)}"
        )
        with pytest.raises(edgekd.InputError, match="stage 'gate' has not been done"):
            found.verdict  # noqa: B018
        assert found.ap["student"] == read(run / "student/metrics.json")["ap"]
        assert "gate: not judged" in found._repr_html_()

    def test_a_name_that_was_missed_is_guessed(self, whole: Whole) -> None:
        with pytest.raises(edgekd.InputError, match="did you mean 'onnx-fp32@local'"):
            edgekd.Run(whole.run).latency("onnx-fp3@local")

    def test_no_run_directory(self, tmp_path: Path) -> None:
        with pytest.raises(edgekd.InputError, match="no run directory"):
            edgekd.Run(tmp_path)


class TestPredictor:
    def test_two_lines(self, tmp_path: Path) -> None:
        images, folder = make_images(2), write_artifact(tmp_path / "tiny")
        predictor = edgekd.load(folder, conf=0.0, iou=1.0)
        found = predictor.predict(images[0])
        scores = expected_scores(images)[0]
        assert len(found) == scores.size
        best = np.unravel_index(scores.argmax(), scores.shape)
        assert np.isclose(found.confidence[0], scores.max(), atol=1e-6)
        assert np.array_equal(found.xyxy[0], QUADRANTS_PX[best[0]])
        assert found.names[0] == ("red", "green")[best[1]]
        limit = float(np.median(scores))
        assert len(predictor.predict(images[0], conf=limit)) == (found.confidence >= limit).sum()

    def test_images_of_files_and_of_pillow(self, tmp_path: Path) -> None:
        from PIL import Image

        image, predictor = make_images(1)[0], edgekd.load(write_artifact(tmp_path / "tiny"), conf=0.0)
        Image.fromarray(image).save(tmp_path / "a.png")
        for given in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(image)):
            assert np.array_equal(predictor.predict(given).xyxy, predictor.predict(image).xyxy)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("nowhere.png", "nowhere.png: no such image file"),
            (np.zeros((4, 4, 3), np.float32), r"got float32 \(4, 4, 3\)"),
            (np.zeros((4, 4), np.uint8), r"got uint8 \(4, 4, 1\)"),
        ],
    )
    def test_what_is_no_image_is_refused(self, tmp_path: Path, given: object, said: str) -> None:
        with pytest.raises(edgekd.InputError, match=said):
            edgekd.load(write_artifact(tmp_path / "tiny")).predict(given)

    def test_a_run_is_no_artifact(self, whole: Whole, tmp_path: Path) -> None:
        with pytest.raises(edgekd.InputError, match=r"is a run, not an artifact; load .*export/onnx-fp32"):
            edgekd.load(whole.run)
        with pytest.raises(edgekd.InputError, match="no artifact here"):
            edgekd.load(tmp_path)


class TestDetections:
    FOUND = Detections(
        np.array([[1, 1, 5, 5], [2, 2, 30, 9]], np.float32), np.array([1, 7]), np.array([0.9, 0.2], np.float32),
        ("red", "<b>"), np.zeros((10, 20, 3), np.uint8),
    )  # fmt: skip

    def test_some_of_them(self) -> None:
        assert self.FOUND[self.FOUND.confidence > 0.5].names == ("<b>",)
        assert self.FOUND[1].xyxy.shape == (1, 4)
        assert self.FOUND.names == ("<b>", "class 7")

    def test_boxes_are_drawn_inside_the_image(self) -> None:
        drawn = self.FOUND.drawn()
        assert drawn.shape == (10, 20, 3)
        assert drawn[1, 1].any() and drawn[5, 3].any() and drawn[9, 10].any()
        assert not drawn[3, 3].any()
        assert not self.FOUND.image.any(), "the image itself is left alone"

    def test_notebooks_show_them_and_no_name_is_markup(self) -> None:
        shown = self.FOUND._repr_html_()
        assert "data:image/jpeg;base64," in shown
        assert "&lt;b&gt;" in shown and "<b>" not in shown
        assert "nothing found" in self.FOUND[:0]._repr_html_()

    def test_as_supervision_has_them(self) -> None:
        supervision = pytest.importorskip("supervision", reason="supervision is not installed")
        found = self.FOUND.to_supervision()
        assert isinstance(found, supervision.Detections)
        assert np.array_equal(found.xyxy, self.FOUND.xyxy)
        assert list(found.data["class_name"]) == ["<b>", "class 7"]
