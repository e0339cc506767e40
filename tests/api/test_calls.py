"""The functions do what the commands do, on the shared tiny run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import edgekd
from tests.stages.tiny import STAGES, read, snapshot
from tests.stages.tiny import edgekd as command

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)


def test_a_finished_run_is_kept_whole(whole: Whole, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, events = snapshot(run), []
    found = edgekd.run(whole.recipe, run, on_event=events.append, quiet=True)
    stages = [(event.title, event.state) for event in events if event.kind == "stage"]
    assert stages == [(stage, "kept") for stage in STAGES]
    assert found.path == run
    assert found.ap == edgekd.Run(whole.run).ap
    changed = {name for name, content in snapshot(run).items() if before.get(name) != content}
    assert changed <= {"manifest.json", "report.html", "report.md", "report.json"}
    assert capsys.readouterr().err == ""
    assert ("line", "data: unchanged, kept") in {(event.kind, event.title) for event in events}


def test_a_recipe_made_in_python_goes_on_in_the_run_of_its_file(whole: Whole, run: Path) -> None:
    recipe = edgekd.Recipe(base=whole.recipe.parent, **edgekd.Recipe.load(whole.recipe).content)
    events: list[edgekd.Event] = []
    edgekd.run(recipe, run, on_event=events.append, quiet=True)
    states = {event.title: event.state for event in events if event.kind == "stage"}
    assert states["student"] == states["profile/onnx-fp32@local"] == "kept"
    assert read(run / "manifest.json")["command"] == f"edgekd.run(recipe, out={str(run)!r})"


def test_overrides_redo_what_they_touch_and_the_stages_tell(run: Path) -> None:
    events: list[edgekd.Event] = []
    found = edgekd.validate(run, {"validate.conf": 0.01}, on_event=events.append, quiet=True)
    told = [(event.title, event.state) for event in events if event.kind == "stage"]
    assert told[:2] == [("validate/onnx-fp32@local", "begins"), ("validate/onnx-fp32@local", "ends")]
    assert found.recipe["validate"]["conf"] == 0.01
    steps = [event for event in events if event.kind == "progress" and event.title.startswith("predict onnx-fp32")]
    assert steps[-1].done == steps[-1].total == 16
    assert steps[-1].left_s == 0.0


def test_what_a_listener_raises_ends_the_run(run: Path) -> None:
    class Enough(Exception):
        pass

    def listen(_: edgekd.Event) -> None:
        raise Enough

    with pytest.raises(Enough):
        edgekd.export(run, on_event=listen, quiet=True)


def test_the_gate_judges_by_other_budgets_and_keeps_nothing(run: Path) -> None:
    before = read(run / "verdict.json")
    found = edgekd.gate(run, {"gate.min_ap": 0.99}, quiet=True)
    assert (found.status, found.exit_code, found.passed) == ("fail", 1, False)
    assert "gate: fail" in found._repr_html_()
    assert read(run / "verdict.json") == before
    assert edgekd.gate(run, {"gate.min_ap": 0.99}, save=True, quiet=True).status == "fail"
    assert edgekd.Run(run).passed is False


def test_check_finds_what_the_command_finds(whole: Whole) -> None:
    found = edgekd.check(whole.recipe, quiet=True)
    assert found == command("check", whole.recipe, "--json").json
    assert found["student"]["name"] in found._repr_html_()


def test_errors_are_the_lines_of_the_command(tmp_path: Path) -> None:
    for call, words in (
        (lambda: edgekd.export(tmp_path), ("export", tmp_path)),
        (lambda: edgekd.run("quickstat", tmp_path / "run"), ("run", "quickstat", "--out", tmp_path / "run")),
        (lambda: edgekd.gate(tmp_path / "none"), ("gate", tmp_path / "none")),
    ):
        with pytest.raises(edgekd.EdgekdError) as caught:
            call()
        ended = command(*words)
        assert list(caught.value.problems) == ended.problems
        assert caught.value.exit_code == ended.code


def test_compare_wants_three_processes(tmp_path: Path) -> None:
    with pytest.raises(edgekd.InputError, match="max_processes: at least 3, got 2"):
        edgekd.compare(tmp_path, tmp_path, out=tmp_path / "out", max_processes=2)
