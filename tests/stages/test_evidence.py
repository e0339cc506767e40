"""What a verdict rests on: whole files that belong together, budgets that were written, and a model that detects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgekd.errors import InputError
from edgekd.run_dir import RunDir
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context
from edgekd.stages.evidence import require_sound
from tests.stages.tiny import Ended, edgekd, measured_as, read, snapshot, write_recipe

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)
pytestmark = pytest.mark.usefixtures("short")

AGAIN = "(edited, cut or damaged since); run 'edgekd"
JUDGED = ("student", "control", "accuracy", "export", "validate", "profile")


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def context_of(run: Path) -> Context:
    manifest = RunDir.existing(run)
    return Context(bind_recipe(run / "recipe.lock.yaml", (), Path(manifest.manifest["base"])), manifest)


class TestFiles:
    def test_every_file_of_what_is_judged_must_be_what_was_written(self, run: Path) -> None:
        """Cut to half, one byte changed, or gone: each file is named."""
        context = context_of(run)
        stages = {name: entry for name, entry in context.run.manifest["stages"].items()}
        judged = [name for stage in stages if stage.startswith(JUDGED) for name in stages[stage]["outputs"]]
        assert len(judged) > 25
        require_sound(context)
        for name in judged:
            path = run / name
            content = path.read_bytes()
            for other in (content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1]), b"", None):
                path.unlink()
                if other is not None:
                    path.write_bytes(other)
                with pytest.raises(InputError) as caught:
                    require_sound(context)
                (problem,) = caught.value.problems
                assert problem.startswith(f"{path}: "), problem
            path.write_bytes(content)
        require_sound(context)

    def test_an_edited_measurement_is_refused_and_the_verdict_stays(self, run: Path) -> None:
        before = (run / "verdict.json").read_bytes()
        path = run / "validate/onnx-fp32@local.json"
        path.write_text(path.read_text().replace('"ap": 0.', '"ap": 0.9'))
        ended = edgekd("gate", run)
        assert (ended.code, ended.out) == (2, "")
        assert ended.problems == [
            f"{path}: is not what stage 'validate/onnx-fp32@local' wrote {AGAIN} validate {run}' again"
        ]
        assert (run / "verdict.json").read_bytes() == before
        assert edgekd("validate", run).code == 0
        assert edgekd("gate", run).code == 0

    @pytest.mark.parametrize("command", ["gate", "validate", "profile", "export", "report"])
    def test_a_recipe_that_is_cut_is_noticed(self, command: str, run: Path) -> None:
        """Half a recipe is a recipe, without its budgets."""
        text = (run / "recipe.lock.yaml").read_text()
        (run / "recipe.lock.yaml").write_text(text[: text.index("\ngate:") + 1])
        ended = edgekd(command, run)
        assert ended.code == 2
        assert ended.problems == [
            f"{run}/recipe.lock.yaml: is not what edgekd wrote {AGAIN} run RECIPE --out {run}' again, which keeps what "
            "is done, and give changes by --set"
        ]

    def test_run_writes_the_recipe_anew_and_keeps_what_is_done(self, whole: Whole, run: Path) -> None:
        text = (run / "recipe.lock.yaml").read_text()
        cut(run / "recipe.lock.yaml")
        ended = edgekd("run", whole.recipe, "--out", run)
        assert (ended.code, len(ended.kept)) == (0, len(read(run / "manifest.json")["stages"]))
        assert (run / "recipe.lock.yaml").read_text() == text

    @pytest.mark.parametrize(
        "name",
        ["student/metrics.json", "validate/onnx-fp32@local.json", "profile/openvino-fp32@local.json",
         "export/onnx-fp32/edgekd.json", "data/split.json", "recipe.lock.yaml"],
    )  # fmt: skip
    def test_neither_a_report_nor_a_baseline_is_made_of_edited_files(self, name: str, run: Path) -> None:
        path = run / name
        path.write_text(path.read_text() + "\n")
        for command in (["report", run], ["baseline", "save", run, "v1", "--store", run.parent / "store"]):
            ended = edgekd(*command)
            assert ended.code == 2
            assert ended.problems[0].startswith(f"{path}: is not what "), command
        assert not (run.parent / "store").exists()

    @pytest.mark.parametrize("name", ["export/onnx-fp32/edgekd.json", "data/ground_truth-val.json", "packs"])
    def test_neither_a_bundle_nor_a_comparison_is_made_of_edited_files(
        self, name: str, whole: Whole, run: Path
    ) -> None:
        path = next((run / "data/packs").glob("val-*.npy")) if name == "packs" else run / name
        path.write_bytes(path.read_bytes()[:-1] + b" ")
        other = whole.run / "export/openvino-fp32"
        for command in (
            ["bundle", run, "--target", "onnx-fp32"],
            ["compare", run / "export/onnx-fp32", other, "--out", run.parent / "out"],
        ):
            ended = edgekd(*command)
            assert ended.code == 2
            assert ended.problems[0].startswith(f"{path}: is not what "), command

    def test_what_was_begun_anew_and_not_ended_counts_as_not_measured(self, run: Path) -> None:
        """A kill within a stage leaves its file of before, and no entry."""
        manifest = read(run / "manifest.json")
        del manifest["stages"]["validate/onnx-fp32@local"]
        (run / "manifest.json").write_text(json.dumps(manifest))
        ended = edgekd("gate", run, "--json")
        assert (ended.code, ended.json["status"]) == (3, "inconclusive")
        assert ended.json["reasons"][0] == "min_ap: onnx-fp32@local: it was not validated; run edgekd validate"


class TestWhatBelongsTogether:
    @pytest.mark.parametrize(
        ("change", "stages"),
        [
            ("validate.iou=0.5", ["accuracy/student", "accuracy/control"]),
            ("profile.throughput=[{streams: 2}]", ["profile/onnx-fp32@local"]),
            ("export.0.tolerance.max_abs_score=0.02", ["export/onnx-fp32"]),
        ],
    )
    def test_figures_of_another_recipe_are_refused(self, change: str, stages: list[str], run: Path) -> None:
        before = snapshot(run)
        ended = edgekd("gate", run, "--set", change)
        assert ended.code == 2
        for stage, problem in zip(stages, ended.problems, strict=False):
            said = f"{run}: stage '{stage}' was done with another recipe, data set or artifact than these are now; run "
            assert problem.startswith(said)
        assert snapshot(run) == before

    def test_figures_of_another_artifact_are_refused(self, run: Path) -> None:
        """As where an export ended and its validation did not follow."""
        path = run / "export/onnx-fp32/edgekd.json"
        measured_as(run, "export/onnx-fp32/edgekd.json", **{**read(path), "tools": {"edgekd": "0"}})
        ended = edgekd("gate", run)
        assert ended.code == 2
        assert [problem.split("'")[1] for problem in ended.problems] == [
            "validate/onnx-fp32@local", "profile/onnx-fp32@local",
        ]  # fmt: skip
        assert ended.problems[0].endswith(f"than these are now; run 'edgekd validate {run}' again")


class TestNoPass:
    def test_a_student_that_detects_nothing(self, run: Path) -> None:
        for name in ("student/metrics.json", "control/metrics.json", "validate/onnx-fp32@local.json",
                     "validate/openvino-fp32@local.json"):  # fmt: skip
            measured_as(run, name, ap=0.0)
        ended = edgekd("gate", run, "--set", "gate={min_gain: 0.0, max_ap_drop: 0.0}", "--json")
        assert (ended.code, ended.json["status"], ended.json["schema"]) == (1, "fail", "edgekd.verdict/2")
        dead = [check["subject"] for check in ended.json["checks"] if check["metric"] == "detects"]
        assert dead == ["student", "onnx-fp32@local", "openvino-fp32@local"]
        assert ended.json["reasons"][0].startswith("detects: student: AP 0: it detects nothing")
        written = edgekd("gate", run, "--set", "gate={min_gain: 0.0, max_ap_drop: 0.0, min_ap: 0}")
        assert (written.code, written.out) == (0, "gate: pass\n")

    def test_an_empty_gate(self, whole: Whole, run: Path) -> None:
        """Asked for and empty: inconclusive. Not asked for: a run that ends well ends well."""
        nothing = "gate: inconclusive\n  nothing judged: no budget stands under gate:\n"
        asked = edgekd("gate", run, "--set", "gate={}")
        assert (asked.code, asked.out) == (3, nothing)
        written = edgekd("run", whole.recipe, "--out", run, "--set", "gate={}")
        assert written.code == 3
        assert nothing in written.out
        data = {"format": "yolo", "path": str(whole.data / "data.yaml")}
        without = write_recipe(run.parent / "tiny.yaml", data=data, gate=None)
        for name in ("teacher", "student"):
            (run.parent / f"{name}.safetensors").symlink_to(whole.recipe.parent / f"{name}.safetensors")
        for _ in range(2):
            ended = edgekd("run", without, "--out", run)
            assert (ended.code, nothing in ended.out) == (0, True), ended.err
        assert "\ngate:" not in (run / "recipe.lock.yaml").read_text()
        assert edgekd("gate", run).code == 3
        assert "## edgekd: tiny: ❔ inconclusive" in (run / "report.md").read_text()


class TestWhatIf:
    BUDGET = "gate.min_ap=0.9"

    def test_judges_and_changes_nothing(self, run: Path) -> None:
        before = snapshot(run)
        junit = run.parent / "j.xml"
        ended = edgekd("gate", run, "--set", self.BUDGET, "--json", "--junit", junit)
        assert (ended.code, ended.json["status"]) == (1, "fail")
        assert "min_ap: student: AP" in junit.read_text()
        assert snapshot(run) == before
        assert edgekd("gate", run).code == 0

    def test_is_kept_where_that_is_asked_for(self, run: Path) -> None:
        assert edgekd("gate", run, "--set", self.BUDGET, "--save").code == 1
        assert read(run / "verdict.json")["status"] == "fail"
        assert edgekd("gate", run).code == 1
        assert edgekd("report", run, "--json").json["verdict"]["status"] == "fail"


OVERRIDES = {
    "gate": ["gate.min_ap=40", "gate.min_app=0.4", "gate.min_ap_per_class={ten: 0.5}", "gate.against={baseline: v9}"],
    "export": ["export.0.precision=fp8", "export=[onnx-fp33]", "train.epochs=0"],
    "validate": ["validate.iou=2", "gate.min_ap_per_class={ten: 0.5}"],
    "profile": ["profile.protocol=fast", "devices=[moon]"],
    "report": ["report.examples=-1", "report.image=false"],
}


class TestOverrides:
    @pytest.mark.parametrize(("command", "change"), [(key, one) for key, many in OVERRIDES.items() for one in many])
    def test_an_invalid_one_changes_nothing(self, command: str, change: str, run: Path) -> None:
        before = snapshot(run)
        options = ["--save"] if command == "gate" else []
        assert edgekd(command, run, "--set", change, *options).code == 2
        assert snapshot(run) == before

    def test_one_that_cannot_be_done_changes_no_recipe(self, run: Path) -> None:
        before = (run / "recipe.lock.yaml").read_bytes()
        strict = "export.0.tolerance={max_abs_score: 1.0e-12, max_abs_box_px: 1.0e-12}"
        assert edgekd("export", run, "--set", strict).code != 0
        assert (run / "recipe.lock.yaml").read_bytes() == before
        assert edgekd("export", run).code == 0

    @pytest.mark.parametrize(
        ("command", "change", "where", "value"),
        [
            pytest.param("export", "export.1.batch=dynamic", ("export", 1, "batch"), "dynamic", marks=pytest.mark.slow),
            ("validate", "validate.operating_threshold=0.4", ("validate", "operating_threshold"), 0.4),
            pytest.param(
                "profile",
                "profile.throughput=[{streams: 2}]",
                ("profile", "throughput", 0, "streams"),
                2,
                marks=pytest.mark.slow,
            ),
            ("report", "report.images=false", ("report", "images"), False),
        ],
    )
    def test_one_that_was_done_is_kept(
        self, command: str, change: str, where: tuple[Any, ...], value: Any, run: Path
    ) -> None:
        import yaml

        assert edgekd(command, run, "--set", change).code == 0
        found = yaml.safe_load((run / "recipe.lock.yaml").read_text())
        for key in where:
            found = found[key]
        assert found == value
        assert edgekd(command, run).kept != []


class TestNothingToMeasure:
    @pytest.mark.parametrize(
        ("command", "change", "why"),
        [
            ("profile", "devices=[]", "nothing was measured: the recipe has no device; name some in devices:"),
            ("validate", "devices=[]", "nothing was measured: the recipe has no device; name some in devices:"),
            ("profile", "export=[]", "nothing was measured: the recipe has no target; name some in export:"),
            ("export", "export=[]", "nothing was exported: the recipe has no target; name some in export:"),
        ],
    )
    def test_is_inconclusive_and_said(self, command: str, change: str, why: str, run: Path) -> None:
        ended: Ended = edgekd(command, run, "--set", change, "--set", "gate={}", "--json")
        measured = [row for row in ended.json if row.get("device") != "host"]
        assert (ended.code, measured) == (3, [])
        assert ended.err.splitlines()[-1] == f"{command}: {why}"
        assert edgekd(command, run).code == 3, "also from what was kept"


def test_a_verdict_and_a_report_open_no_detector(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher of 100 MB is read where it is asked, and nowhere else."""
    monkeypatch.setattr("edgekd.detectors.families.open_detector", lambda *_: pytest.fail("a detector was opened"))
    assert edgekd("gate", run).code == 0
    assert edgekd("report", run).code == 0
