"""One tiny run from recipe to report: what its process says, and what it leaves where."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekd.atomic import sha256_file
from tests.stages.tiny import PROTOCOL, STAGES, TARGETS, lines, read, snapshot

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)

MODELS = ("teacher@host", "control@host", "student@host", *(f"{target}@local" for target in TARGETS))


def nothing_written_elsewhere(whole: Whole) -> None:
    """Not a file, not a folder, not even for a moment: making and removing one would change its folder's time."""
    assert list(whole.after["tmp"]) == [".", f"edgekd-{os.getuid()}.lock"], "temporary files are gone but for the lock"
    for name in set(whole.before) - {"tmp"}:
        assert whole.after[name] == whole.before[name], name
    assert len(whole.after["data"]) > 100
    assert not [name for name in whole.after["data"] if name.endswith(".cache")]
    assert whole.touched == []


class TestTheRun:
    def test_standard_output_is_the_report_and_nothing_else(self, whole: Whole) -> None:
        assert whole.ended.json == read(whole.run / "report.json")

    def test_progress_is_plain_where_there_is_no_terminal(self, whole: Whole) -> None:
        assert "\x1b" not in whole.ended.err
        assert "\r" not in whole.ended.err
        assert len(whole.ended.err.splitlines()) < 60

    def test_nothing_is_written_elsewhere(self, whole: Whole) -> None:
        nothing_written_elsewhere(whole)

    def test_every_stage_is_in_the_manifest_with_hashes_of_what_it_wrote(self, whole: Whole) -> None:
        stages = read(whole.run / "manifest.json")["stages"]
        assert list(stages) == STAGES
        for entry in stages.values():
            assert entry["status"] == "done"
            assert entry["versions"]["torch"]
            assert entry["outputs"]
            for name, digest in entry["outputs"].items():
                assert sha256_file(whole.run / name) == digest

    def test_every_result_belongs_to_a_stage(self, whole: Whole) -> None:
        known = {name for entry in read(whole.run / "manifest.json")["stages"].values() for name in entry["outputs"]}
        hidden = {name for name in snapshot(whole.run) if name.startswith(".") or name.startswith("data/")}
        assert set(snapshot(whole.run)) - hidden - known == {"manifest.json", "recipe.lock.yaml"}

    def test_layout(self, whole: Whole) -> None:
        expected = {
            "recipe.lock.yaml", "manifest.json", "verdict.json", "report.json", "report.html", "report.md",
            "data/split.json", "data/train_view/data.yaml", "teacher/teacher.json",
            "student/terms.csv", "student/first_steps.json",
            *(f"{model}/student.{end}" for model in ("control", "student") for end in ("pt", "safetensors")),
            *(f"{model}/{name}" for model in ("control", "student") for name in ("metrics.json", "epochs.csv")),
            *(f"export/{target}/{name}" for target in TARGETS for name in ("edgekd.json", "parity.json")),
            "export/onnx-fp32/model.onnx", "export/openvino-fp32/model.xml", "export/openvino-fp32/model.bin",
            *(f"validate/{model}.{end}" for model in MODELS for end in ("json", "detections.jsonl")),
            *(f"profile/{target}@local.{end}" for target in TARGETS for end in ("json", "jsonl")),
        }  # fmt: skip
        assert expected <= set(snapshot(whole.run))
        assert len(list((whole.run / "data" / "packs").glob("val-*.npy"))) == 1
        for name in ("student/engine", "control/engine"):
            assert not (whole.run / name).exists()

    def test_split_and_models(self, whole: Whole) -> None:
        split = read(whole.run / "data/split.json")
        assert {name: part["images"] for name, part in split["splits"].items()} == {"train": 24, "val": 16, "test": 8}
        assert split["channels"] == 3
        teacher, student = read(whole.run / "teacher/teacher.json"), read(whole.run / "student/metrics.json")
        assert teacher["weights_sha256"] == sha256_file(whole.recipe.parent / "teacher.safetensors")
        assert teacher["classes_known"] == 10
        assert {tap["stride"] for tap in teacher["taps"] if tap["role"] == "neck"} == {8, 16, 32}
        assert student["weights_sha256"] == sha256_file(whole.run / "student/student.pt")
        assert (student["name"], student["head"], student["epochs"]) == ("yolo11p", "one2many", 1)
        assert set(student["per_class"]) == set(split["class_names"])

    def test_terms(self, whole: Whole) -> None:
        with (whole.run / "student/terms.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert {row["term"] for row in rows} == {"detection", "logit.class", "cwd.feature"}
        for row in rows:
            scale = 1 if row["term"] == "detection" else 8  # as the engine's loss, terms count per image of the batch
            assert float(row["weighted"]) == pytest.approx(float(row["value"]) * float(row["weight"]) * scale, rel=1e-4)
        first = read(whole.run / "student/first_steps.json")
        assert sum(term["share"] for term in first["terms"]) == pytest.approx(1)

    def test_the_locked_recipe_is_a_recipe_that_says_the_same(self, whole: Whole) -> None:
        from edgekd.stages.binding import bind_recipe

        first = bind_recipe(whole.recipe)
        again = bind_recipe(whole.run / "recipe.lock.yaml", (), first.base)
        assert again.locked() == first.locked() == (whole.run / "recipe.lock.yaml").read_text()
        assert (again.distillers, again.targets, again.gate) == (first.distillers, first.targets, first.gate)

    def test_report_json_has_what_programs_count_on(self, whole: Whole) -> None:
        report = read(whole.run / "report.json")
        assert (report["schema"], report["recipe"]) == ("edgekd.report/2", "tiny")
        for role, key in (("teacher", "ap"), ("control", "ap"), ("student", "ap"), ("student", "ap50")):
            assert 0 <= report[role][key] <= 1
        assert {(one["target"], one["device"]) for one in report["artifacts"]} == {
            (target, "local") for target in TARGETS
        }
        for one in report["artifacts"]:
            folder = whole.run / "export" / one["target"]
            stated = read(folder / "edgekd.json")["files"]
            assert one["ap"] == read(whole.run / f"validate/{one['target']}@local.json")["ap"]
            assert 0 <= one["ap50"] <= 1
            assert one["parity"]["max_abs"] == read(folder / "parity.json")["max_abs"] < 1e-3
            assert one["size_bytes"] == sum((folder / name).stat().st_size for name in stated)
            assert one["sha256"] == sha256_file(folder / next(iter(stated)))
            latency = one["latency_ms"]
            assert 0 < latency["p50"] <= latency["p90"]
            assert latency["p99"] is None, "64 samples say nothing about the 99th percentile"
        assert report["verdict"]["status"] == "pass"
        assert report["verdict"]["reasons"] == []

    def test_latency_is_of_the_raw_samples(self, whole: Whole) -> None:
        for target in TARGETS:
            summary = read(whole.run / f"profile/{target}@local.json")
            events = lines(whole.run / f"profile/{target}@local.jsonl")
            samples = [ns / 1e6 for event in events if event["event"] == "samples" for ns in event["end_to_end_ns"]]
            assert summary["latency_ms"]["end_to_end"]["count"] == len(samples) >= PROTOCOL.min_count
            assert summary["latency_ms"]["end_to_end"]["p50"] == sorted(samples)[-(-len(samples) // 2) - 1]

    def test_artifacts_find_what_torch_finds(self, whole: Whole) -> None:
        student = read(whole.run / "validate/student@host.json")
        reference = lines(whole.run / "validate/student@host.detections.jsonl")
        assert sum(len(line["scores"]) for line in reference) > 500
        for target in TARGETS:
            accuracy = read(whole.run / f"validate/{target}@local.json")
            for key in ("ap", "ap50", "ap75"):
                assert accuracy[key] == pytest.approx(student[key], abs=1e-3)
            assert accuracy["settings"] == student["settings"]
            for ours, torchs in zip(
                lines(whole.run / f"validate/{target}@local.detections.jsonl"), reference, strict=True
            ):
                assert ours["image_id"] == torchs["image_id"]
                np.testing.assert_allclose(ours["scores"][:100], torchs["scores"][:100], atol=1e-3)


@pytest.mark.slow
def test_a_run_on_a_coco_data_set_writes_nothing_elsewhere(tmp_path: Path) -> None:
    from tests.stages.whole_run import make_whole

    data: dict[str, Any] = {"format": "coco"}
    for split in ("train", "val"):
        annotations = f"../data/annotations/{split}.json"
        data[split] = {"images": f"../data/images/{split}", "annotations": annotations}
    whole = make_whole(tmp_path, data)
    nothing_written_elsewhere(whole)
    split = read(whole.run / "data/split.json")
    assert {name: part["images"] for name, part in split["splits"].items()} == {"train": 24, "val": 16}
    assert whole.ended.json["verdict"]["status"] == "pass"
