"""An estimate before the work: what is counted is counted right, and measuring it changes nothing of what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgekd.atomic import sha256_file
from edgekd.progress import Event, listening
from edgekd.run_dir import RunDir
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context
from edgekd.stages.estimate import estimate, steps
from edgekd.stages.estimate.former import former_seconds
from edgekd.stages.estimate.parts import EVERY, expected, training_s
from edgekd.stages.estimate.room import disk_bytes, free_bytes
from edgekd.stages.estimate.steps import Measured, Pace, spread, training_steps
from tests.stages.tiny import STAGES, edgekd, read, weights, write_recipe

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)

CONTROL = Pace(steps=20, setup_s=2, step_s=0.1, image_s=0.01, pause_s=0.5, gpu_bytes=None, resident_bytes=10**9)
STUDENT = Pace(steps=20, setup_s=3, step_s=0.3, image_s=0.01, pause_s=0.5, gpu_bytes=None, resident_bytes=2 * 10**9)
MEASURED = Measured({"control": CONTROL, "student": STUDENT}, {"teacher": 0.2, "student": 0.1})


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("estimate")
    weights(folder / "teacher.safetensors", "yolo11n")
    weights(folder / "student.safetensors", "yolo11p")
    bound = bind_recipe(write_recipe(folder / "tiny.yaml"), ())
    with RunDir.held(folder / "run", "tiny", bound.base, bound.locked()) as run:
        made = Context(bound, run)
        assert made.pair.head == "one2many"
        return made


class TestParts:
    def test_every_stage_of_a_run_has_one(self, context: Context) -> None:
        found = expected(context, EVERY, MEASURED, {})
        told = [stage for stage in STAGES if stage not in ("data", "test")]  # which take no time worth the name
        assert [part.stage for part in found] == told

    def test_seconds_by_hand(self, context: Context) -> None:
        """24 images in batches of 8, one epoch; 16 val images, twice: behind the epoch and of the best weights."""
        found = {part.stage: part for part in expected(context, EVERY, MEASURED, {})}
        assert found["control"].seconds == pytest.approx(2 + 3 * 0.1 + 0.5 + 16 * 0.01 + 16 * 0.01)
        assert found["student"].seconds == pytest.approx(3 + 3 * 0.3 + 0.5 + 2 * 16 * 0.01)
        assert found["teacher"].seconds == pytest.approx(16 * (0.2 + 0.002))
        assert found["test/student"].seconds == pytest.approx(8 * (0.1 + 0.002))
        assert found["profile/onnx-fp32@local"].known_by == "protocol"
        assert found["export/onnx-fp32"].known_by == "guess"

    def test_an_earlier_run_knows_better_than_a_guess_and_no_better_than_a_measurement(self, context: Context) -> None:
        former = {"export/onnx-fp32": 33.0, "student": 44.0, "profile/onnx-fp32@local": 55.0}
        found = {part.stage: part for part in expected(context, EVERY, MEASURED, former)}
        assert (found["export/onnx-fp32"].seconds, found["export/onnx-fp32"].known_by) == (33.0, "earlier run")
        assert found["student"].known_by == "measured"
        assert found["profile/onnx-fp32@local"].known_by == "protocol"

    def test_a_part_of_the_road(self, context: Context) -> None:
        found = expected(context, ["data", "teacher", "control", "student"], MEASURED, {})
        assert [part.stage for part in found] == [
            "teacher", "control", "accuracy/control", "student", "accuracy/student",
        ]  # fmt: skip

    def test_each_seed_trains_a_pair(self, context: Context) -> None:
        bound = bind_recipe(context.bound.path, ("seeds=[3,4]",))
        of_seeds = Context(bound, context.run)
        of_seeds.__dict__.update(data=context.data, pair=context.pair)
        trained = [part.stage for part in expected(of_seeds, EVERY, MEASURED, {}) if part.kind == "train"]
        assert trained == ["control/seed-3", "control/seed-4", "student/seed-3", "student/seed-4"]
        assert training_steps(of_seeds, ("control", "student")) == 3 * 2 * 2

    def test_a_preparation_has_epochs_of_its_own(self, context: Context) -> None:
        bound = bind_recipe(context.bound.path, ('distill=[{"method": "unikd", "absorb_epochs": 5}]',))
        of_unikd = Context(bound, context.run)
        of_unikd.__dict__.update(data=context.data, pair=context.pair)
        (found,) = (part for part in expected(of_unikd, EVERY, MEASURED, {}) if part.stage.startswith("prepare/"))
        assert (found.stage, found.known_by) == ("prepare/unikd", "guess")
        assert found.seconds == pytest.approx(3 + 5 * (3 * 0.3 + 0.5))

    def test_epochs_count_as_often_as_they_are(self) -> None:
        """118,287 images in batches of 16, as of COCO: 7,393 steps."""
        train = {"epochs": 100, "batch": 16}
        assert training_s(CONTROL, train, 118_287, 5000) == pytest.approx(2 + 100 * (739.3 + 0.5 + 50) + 50)


def test_a_sample_is_from_all_over_a_split(context: Context) -> None:
    train = context.data.splits["train"]
    ids = [image.image_id for image in train.images]
    assert [image.image_id for image in spread(train, 6).images] == ids[::4]
    assert spread(train, 6).content_hash != train.content_hash
    assert spread(train, 24) is train


def test_disk_is_at_least_what_is_known_to_be_written(context: Context) -> None:
    packs = (16 + 8) * 64 * 64 * 3
    parameters = context.pair.student.spec.parameters
    assert disk_bytes(context) > packs + 20 * parameters
    assert free_bytes(context.path / "not" / "there") > 0


def test_what_stages_took_in_the_latest_run_of_the_recipe(tmp_path: Path) -> None:
    def run(name: str, recipe: str, stages: dict[str, Any]) -> None:
        (tmp_path / name).mkdir()
        content = {"schema": "edgekd.manifest/1", "recipe": recipe, "base": ".", "stages": stages}
        (tmp_path / name / "manifest.json").write_text(json.dumps(content))

    def entry(seconds: Any, finished: str) -> dict[str, Any]:
        return {"outputs": {}, "seconds": seconds, "finished": finished}

    run("a", "street", {"export/x": entry(9.0, "2026-01-02"), "report": entry(3.0, "2026-01-02")})
    run("b", "street", {"export/x": entry(5.0, "2026-01-03"), "gate": entry("soon", "2026-01-03")})
    run("c", "other", {"export/x": entry(1.0, "2026-01-04")})
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "manifest.json").write_text('{"schema": "edgekd.manifest/1"')
    assert former_seconds(tmp_path, "street") == {"export/x": 5.0, "report": 3.0}
    assert former_seconds(tmp_path / "none", "street") == {}


class TestCheck:
    def test_few_steps_are_not_worth_it(self, context: Context) -> None:
        ended = edgekd("check", context.bound.path, "--json")
        assert ended.json["estimate"] == {"why_not": "6 steps of training are too few to measure some beforehand"}
        assert "estimate" not in edgekd("check", context.bound.path, "--json", "--no-estimate").json

    def test_several_processes(self, context: Context) -> None:
        several = bind_recipe(context.bound.path, ("train.epochs=100", "train.gpus_per_node=2"))
        of_several = Context(several, context.run)
        of_several.__dict__.update(data=context.data)
        assert (
            estimate.why_not(of_several) == "several processes train together, and their steps are not measured by one"
        )

    def test_measured_by_real_steps(self, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(estimate, "LEAST_STEPS", 1)
        found = edgekd("check", context.bound.path, "--json").json["estimate"]
        assert set(found["trainings"]) == {"control", "student"}
        for pace in found["trainings"].values():
            assert pace["steps"] == 3
            assert min(pace["step_s"], pace["image_s"], pace["setup_s"]) > 0
        assert [stage["stage"] for stage in found["stages"]] == [one for one in STAGES if one not in ("data", "test")]
        assert found["seconds"] == pytest.approx(sum(stage["seconds"] for stage in found["stages"]), abs=0.2)
        assert found["memory_bytes"] > 50e6
        assert (found["gpu_memory_bytes"], found["gpu_total_bytes"]) == (None, None)
        lines = estimate.lines(found)
        assert all(line.startswith("estimate: ") for line in lines)
        assert lines[0].startswith("estimate: about ")
        assert "for a run on this machine: " in lines[0]

    def test_a_disk_that_is_too_small_is_warned_of(self) -> None:
        content = {
            "stages": [], "trainings": {"student": {"step_s": 0.1, "steps": 20}}, "memory_bytes": 3e9, "seconds": 0,
            "gpu_memory_bytes": 11e9, "gpu_total_bytes": 24e9, "disk_bytes": 9e9, "disk_free_bytes": 4e9,
        }  # fmt: skip
        assert estimate.lines(content)[2:] == [
            "estimate: needs about 3 GB of memory, 11 GB of the GPU's 24 GB, and 9 GB of disk (4 GB are free)",
            "warning: the disk is likely to be too small; free some, or choose an --out on another one",
        ]


def test_measuring_changes_no_weight_and_the_run_tells_what_is_left(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shared run measured nothing beforehand; this one does, and its student is the same, bit for bit."""
    monkeypatch.setattr(estimate, "LEAST_STEPS", 1)
    events: list[Event] = []
    with listening(events.append):
        ended = edgekd("distill", whole.recipe, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    for file in ("student/student.safetensors", "control/student.safetensors"):
        assert sha256_file(tmp_path / "run" / file) == sha256_file(whole.run / file)
    assert "estimate: about " in ended.err
    assert not (tmp_path / "run/.engine/estimate").exists()
    told = [event for event in events if event.kind == "progress"]
    steps_of_control = [event for event in told if event.title == "training the control"]
    assert steps_of_control
    assert all(event.run_left_s is not None and event.run_left_s >= (event.left_s or 0) for event in steps_of_control)
    kept = read(tmp_path / "run" / "estimate.json")
    monkeypatch.setattr(steps, "_trained", None)  # would be called, if anything were measured again
    assert edgekd("distill", whole.recipe, "--out", tmp_path / "run").code == 0
    assert read(tmp_path / "run" / "estimate.json") == kept
