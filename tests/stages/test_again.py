"""What further commands do to a finished run: nothing twice, single stages, and exit codes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from edgekd.atomic import sha256_file, write_json
from edgekd.measure.latency import protocol_of
from edgekd.stages import on_device
from tests.stages.tiny import STAGES, Ended, edgekd, measured_as, read, snapshot, write_recipe

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)
pytestmark = pytest.mark.usefixtures("short")


def finished(run: Path) -> dict[str, Any]:
    """Stage -> when it was done and from what; a stage that was done again differs."""
    return {name: {**entry, "seconds": 0} for name, entry in read(run / "manifest.json")["stages"].items()}


def done_again(run: Path, command: Callable[[], Ended], code: int = 0) -> set[str]:
    """Stages that a command does, on a run in which all were done."""
    ended = command()
    assert ended.code == code, ended.err
    return set(read(run / "manifest.json")["stages"]) - set(ended.kept)


def as_before(run: Path) -> None:
    """Give the control the name that it had in earlier versions."""
    (run / "control").rename(run / "baseline")
    for end in ("json", "detections.jsonl"):
        (run / f"validate/control@host.{end}").rename(run / f"validate/baseline@host.{end}")
    accuracy = run / "validate/baseline@host.json"
    write_json(accuracy, {**read(accuracy), "model": "baseline"})
    lock, manifest = run / "recipe.lock.yaml", run / "manifest.json"
    lock.write_text(lock.read_text().replace("control: true", "baseline: true"))
    content = json.loads(manifest.read_text().replace("control", "baseline"))
    content["stages"]["accuracy/baseline"]["outputs"]["validate/baseline@host.json"] = sha256_file(accuracy)
    del content["recipe_sha256"]
    write_json(manifest, content)


class TestDoingItAgain:
    def test_nothing_is_done_twice(self, whole: Whole) -> None:
        before = snapshot(whole.run)
        ended = edgekd("run", whole.recipe, "--out", whole.run, "--json")
        assert (ended.code, ended.kept) == (0, STAGES)
        after = snapshot(whole.run)
        assert {name for name in after if after[name] != before.get(name)} == set()
        assert ended.json == whole.ended.json

    @pytest.mark.parametrize(
        ("change", "again"),
        [
            ("gate.min_ap=0.99", {"gate", "report"}),
            ("report.images=false", {"report"}),
            ("profile.protocol=quick", set()),
            pytest.param(
                "export.0.tolerance.max_abs_score=0.02", {"export/onnx-fp32", "report"}, marks=pytest.mark.slow
            ),
            ("export.1.batch=dynamic", {f"{stage}/openvino-fp32@local" for stage in ("validate", "profile")}
                | {"export/openvino-fp32", "gate", "report"}),
        ],
    )  # fmt: skip
    def test_a_change_does_again_what_depends_on_it(
        self, change: str, again: set[str], whole: Whole, run: Path
    ) -> None:
        options = ("--out", run, "--set", change, "--json")
        code = 1 if change.startswith("gate.min_ap") else 0
        assert done_again(run, lambda: edgekd("run", whole.recipe, *options), code) == again
        assert done_again(run, lambda: edgekd("run", whole.recipe, *options), code) == set()

    @pytest.mark.parametrize(
        ("gone", "again"),
        [
            ("export/onnx-fp32/model.onnx", {"export/onnx-fp32", "report"}),
            ("validate/onnx-fp32@local.json", {"validate/onnx-fp32@local", "gate", "report"}),
            pytest.param(
                "profile/onnx-fp32@local.jsonl", {"profile/onnx-fp32@local", "gate", "report"}, marks=pytest.mark.slow
            ),
            ("verdict.json", {"gate", "report"}),
            pytest.param("report.html", {"report"}, marks=pytest.mark.slow),
        ],
    )
    def test_what_is_gone_is_made_again(self, gone: str, again: set[str], whole: Whole, run: Path) -> None:
        """A file that says how long something took may come out the same, to the millisecond: then the gate stays."""
        before = (run / gone).read_bytes()
        (run / gone).unlink()
        done = done_again(run, lambda: edgekd("run", whole.recipe, "--out", run))
        same = gone.startswith("validate/") and (run / gone).read_bytes() == before
        assert done == (again - {"gate"} if same else again)
        assert (run / gone).is_file()

    def test_a_run_of_an_earlier_version_keeps_its_control(self, whole: Whole, run: Path) -> None:
        as_before(run)
        ended = edgekd("distill", whole.recipe, "--out", run)
        assert (ended.code, ended.kept) == (0, STAGES[: STAGES.index("accuracy/student") + 1])
        assert "is called" not in ended.err
        for name in ("control/student.pt", "control/metrics.json", "validate/control@host.json"):
            assert (run / name).read_bytes() == (whole.run / name).read_bytes()
        assert not list(run.rglob("*baseline*"))

    @pytest.mark.parametrize("command", ["gate", "report"])
    def test_single_stages_take_it_over_too(self, command: str, run: Path) -> None:
        as_before(run)
        options = ["--save"] if command == "gate" else []
        ended = edgekd(command, run, "--set", "gate={min_gain: -1.0}", "--json", *options)
        assert ended.code == 0, ended.err
        control = read(run / "control/metrics.json")["ap"]
        if command == "gate":
            assert ended.json["checks"][0]["value"] == read(run / "student/metrics.json")["ap"] - control
        else:
            assert (ended.json["control"]["ap"], ended.json["control"]["source"]) == (
                control, "validate/control@host.json",
            )  # fmt: skip
        assert yaml.safe_load((run / "recipe.lock.yaml").read_text())["control"] is True

    def test_another_recipe_is_refused(self, whole: Whole, run: Path) -> None:
        before = snapshot(run)
        other = write_recipe(whole.recipe.with_name("other.yaml"), name="other", data={"format": "digits"})
        ended = edgekd("run", other, "--out", run)
        assert ended.code == 2
        assert ended.problems == [
            f"--out {run}: holds a run of recipe 'tiny', not 'other'; choose another --out, or --fresh to delete it"
        ]
        assert snapshot(run) == before

    def test_another_threshold_costs_no_training(self, whole: Whole, run: Path) -> None:
        ended = edgekd("run", whole.recipe, "--out", run, "--set", "validate.operating_threshold=0.4")
        assert ended.code == 0
        assert ended.kept == ["data", "control", "student", "export/onnx-fp32", "export/openvino-fp32",
                              "profile/onnx-fp32@local", "profile/openvino-fp32@local"]  # fmt: skip
        assert read(run / "student/metrics.json")["operating_point"]["threshold"] == 0.4

    @pytest.mark.slow
    def test_how_the_teacher_is_run_changes_neither_its_own_accuracy_nor_the_control(
        self, whole: Whole, run: Path
    ) -> None:
        options = ("--out", run, "--set", "teacher.runtime=openvino")
        ended = edgekd("distill", whole.recipe, *options)
        assert (ended.code, ended.kept) == (0, ["data", "teacher", "control", "accuracy/control"])
        assert "student" in edgekd("distill", whole.recipe, *options).kept
        switch = ("--set", "train.activation_checkpointing=true")
        assert "student" in edgekd("distill", whole.recipe, *options, *switch).kept, "it changes no result"

    def test_a_recipe_may_move(self, whole: Whole, run: Path, tmp_path: Path) -> None:
        (tmp_path / "moved").mkdir()
        for name in ("tiny.yaml", "teacher.safetensors", "student.safetensors"):
            shutil.copy(whole.recipe.with_name(name), tmp_path / "moved")
        data = f"data.path={whole.data / 'data.yaml'}"
        ended = edgekd("run", tmp_path / "moved/tiny.yaml", "--out", run, "--set", data)
        assert ended.code == 0
        assert read(run / "manifest.json")["base"] == str(tmp_path / "moved")
        assert {"teacher", "student", "export/onnx-fp32"} <= set(ended.kept)


class TestOneStage:
    """Single-stage commands on a run that is there."""

    @pytest.mark.parametrize(
        ("command", "gone", "names"),
        [
            ("export", "export/onnx-fp32/model.onnx", {"export/onnx-fp32"}),
            ("validate", "validate/onnx-fp32@local.json", {"validate/onnx-fp32@local"}),
            ("profile", "profile/openvino-fp32@local.json", {"profile/openvino-fp32@local"}),
            ("gate", "verdict.json", {"gate"}),
            ("report", "report.md", {"report"}),
        ],
    )
    def test_does_its_own_work_alone(self, command: str, gone: str, names: set[str], run: Path) -> None:
        before = finished(run)
        (run / gone).unlink()
        (run / "manifest.json").write_text(
            (run / "manifest.json").read_text().replace('"finished": "2', '"finished": "1')
        )
        ended = edgekd(command, run, "--json")
        assert ended.code == 0, ended.err
        assert (run / gone).is_file()
        after = finished(run)
        assert set(after) == set(before)
        assert {name for name, entry in after.items() if entry["finished"].startswith("2")} == names
        assert isinstance(ended.json, list if command in ("export", "validate", "profile") else dict)

    @pytest.mark.parametrize("command", ["export", "validate", "profile", "gate", "report"])
    def test_speaks_to_people_too(self, command: str, whole: Whole) -> None:
        ended = edgekd(command, whole.run)
        assert ended.code == 0
        assert {"gate": "gate: pass", "report": str(whole.run / "report.html")}.get(command, "onnx-fp32") in ended.out

    def test_distill_goes_up_to_the_student(self, whole: Whole) -> None:
        ended = edgekd("distill", whole.recipe, "--out", whole.run, "--json")
        assert (ended.code, ended.kept) == (0, STAGES[: STAGES.index("accuracy/student") + 1])
        assert set(ended.json) == {"teacher", "control", "student", "gain"}

    def test_data_is_the_first_stage(self, whole: Whole) -> None:
        ended = edgekd("data", whole.recipe, "--out", whole.run, "--json")
        assert (ended.code, ended.kept) == (0, ["data"])
        assert ended.json == read(whole.run / "data/split.json")

    def test_refuses_what_is_not_done_yet(self, run: Path, tmp_path: Path) -> None:
        manifest = read(run / "manifest.json")
        del manifest["stages"]["export/onnx-fp32"]
        (run / "manifest.json").write_text(json.dumps(manifest))
        ended = edgekd("validate", run)
        assert ended.code == 2
        assert ended.problems == [f"{run}: stage 'export/onnx-fp32' has not been done; run 'edgekd export {run}' first"]
        assert edgekd("gate", tmp_path / "none").problems == [
            f"{tmp_path / 'none'}: no run directory (no manifest.json of edgekd); "
            f"make one with 'edgekd run RECIPE --out {tmp_path / 'none'}'"
        ]

    def test_a_target_given_by_its_path(self, run: Path, tmp_path: Path) -> None:
        import edgekd as package

        path = tmp_path / "mine.yaml"
        path.write_text((Path(package.__file__).parents[1] / "export/onnx-fp32.yaml").read_text())
        ended = edgekd("export", run, "--set", f"export=[{path}]", "--set", "gate={}", "--json")
        assert ended.code == 0, ended.err
        assert [row["target"] for row in ended.json] == ["mine"], "the others are the recipe's no more"
        assert (run / "export/mine/model.onnx").is_file()
        assert edgekd("export", run, "--json").kept == ["export/mine"]


class TestExitCodes:
    @pytest.mark.parametrize(
        ("changes", "code", "reason"),
        [
            (["gate.min_ap=0.0"], 0, None),
            (["gate.min_ap=0.99"], 1, "min_ap: student: AP"),
            (["gate.max_p90_ms={onnx-fp32@local: 0.0001}"], 1, "max_p90_ms: onnx-fp32@local: p90"),
            (["control=false", "gate.min_gain=0.01"], 3, "min_gain: student: there is no control"),
            (["control=false", "gate.min_gain=0.01", "gate.min_ap=0.99"], 1, "min_ap: student: AP"),
        ],
    )
    def test_of_the_gate(self, changes: list[str], code: int, reason: str | None, run: Path) -> None:
        ended = edgekd("gate", run, *(word for change in changes for word in ("--set", change)), "--json")
        assert ended.code == code
        assert ended.json["status"] == {0: "pass", 1: "fail", 3: "inconclusive"}[code]
        assert reason is None or ended.json["reasons"][0].startswith(reason)
        assert edgekd("report", run).code == 0, "a report of a failed gate is a good report"

    def test_an_invalid_profile_is_the_environments_fault(self, run: Path) -> None:
        measured_as(run, "profile/onnx-fp32@local.json", valid=False, invalid_reasons=["throttled"])
        ended = edgekd("gate", run, "--json")
        assert (ended.code, ended.json["status"]) == (4, "invalid")
        assert "throttled" in ended.json["reasons"][0]

    def test_a_disturbed_profile_is_measured_again_and_a_sound_one_is_kept(self, run: Path) -> None:
        reason = "the machine was busy: waited 61% of the time for a core"
        measured_as(run, "profile/onnx-fp32@local.json", valid=False, invalid_reasons=[reason])
        ended = edgekd("profile", run, "--set", "profile.wait=1")  # how long to wait is no other measurement
        assert (ended.code, ended.kept) == (0, ["profile/openvino-fp32@local"])
        assert read(run / "profile/onnx-fp32@local.json")["valid"]
        assert edgekd("profile", run).kept == ["profile/onnx-fp32@local", "profile/openvino-fp32@local"]
        assert edgekd("profile", run, "--again").kept == []

    def test_a_run_whose_gate_fails_ends_with_1_and_a_whole_report(self, whole: Whole, run: Path) -> None:
        ended = edgekd("run", whole.recipe, "--out", run, "--set", "gate.min_ap=0.99", "--json")
        assert (ended.code, ended.json["verdict"]["status"]) == (1, "fail")
        assert edgekd("run", whole.recipe, "--out", run, "--set", "gate.min_ap=0.99").code == 1

    def test_a_class_that_the_data_does_not_have_is_refused_before_anything_is_done(
        self, whole: Whole, run: Path
    ) -> None:
        ended = edgekd("run", whole.recipe, "--out", run, "--set", "gate.min_ap_per_class={ten: 0.5}")
        assert ended.code == 2
        assert ended.problems[0].startswith(f"{whole.recipe}: gate.min_ap_per_class.ten: unknown class 'ten' (known: ")


@pytest.mark.slow
class TestSustained:
    def test_one_long_process(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(on_device, "protocol_of", lambda *given: replace(protocol_of(*given), max_waited=1))
        ended = edgekd("profile", run, "--sustained", "1s", "--json")
        assert ended.code == 0, ended.err
        row = next(row for row in ended.json if row["target"] == "onnx-fp32")
        assert (row["protocol"], row["processes"], row["valid"]) == ("sustained", 1, True)
        course = row["over_time"]
        assert course["window_seconds"] * len(course["p50_ms"]) >= 0.9
        assert course["last_over_first"] == course["p50_ms"][-1] / course["p50_ms"][0]
        assert re.match(r"after \d+\.\d min the median is ", row["notes"][0])

    @pytest.mark.parametrize("given", ["30", "m", "0s", "3d", "-1m", "25h"])
    def test_times_that_are_none(self, given: str, run: Path) -> None:
        ended = edgekd("profile", run, f"--sustained={given}")
        assert ended.code == 2
        assert f"'{given}' is no time up to a day; write e.g. 90s, 30m or 2h" in ended.problems[0]
