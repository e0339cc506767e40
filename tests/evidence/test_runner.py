"""What is done when: the most valuable first, within the time, and the same command goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import EnvironmentFault, InputError
from edgekd.evidence import document, runner, sources
from edgekd.evidence.contract import Experiment, Kind, Setting, kinds, offered
from edgekd.evidence.process import Ended
from edgekd.evidence.scale import FULL, MINIATURE
from tests.evidence.made import MACHINE


@dataclass
class Stage:
    """In the place of processes and of the list."""

    ends: dict[str, Ended] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=lambda: dict(MACHINE))
    done: list[str] = field(default_factory=list)
    clock: float = 0.0

    def do(self, kind: str, setting: Setting, arguments: dict[str, Any], limit_s: float) -> Ended:
        if kind == "look":
            return Ended("done", None, 1.0, self.machine)
        self.done.append(arguments["name"])
        found = self.ends.get(arguments["name"], Ended("done", None, 10.0, {"ap": 0.5}))
        self.clock += min(found.seconds, limit_s)
        return found


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    found = Stage()
    monkeypatch.setattr(runner.process, "do", found.do)
    monkeypatch.setattr(runner.time, "monotonic", lambda: found.clock)
    listed = [
        Experiment(name, f"does {name}", "any", value, 60.0, {"name": name}, lacking, ("evidence/process.py",))
        for name, value, lacking in (
            ("second", 2, None),
            ("first", 1, None),
            ("third", 3, None),
            ("never", 0, "no GPU"),
        )
    ]
    listed.sort(key=lambda one: one.value)
    monkeypatch.setattr(runner, "offered", lambda setting: listed)
    kind = Kind("any", lambda setting: listed, lambda work: None, lambda figures: figures.get("against"))
    monkeypatch.setattr(runner, "kinds", lambda: {"any": kind})
    return found


def gather(path: Path, minutes: float = 10, **more: Any) -> dict[str, str]:
    found = runner.gather(path, "local", minutes, FULL, **more)
    assert document.read(path) == found
    return {entry.experiment: entry.status for entry in found.entries}


def test_the_most_valuable_first_and_what_lacks_is_said(stage: Stage, tmp_path: Path) -> None:
    assert gather(tmp_path / "a.json") == {"never": "lacking", "first": "done", "second": "done", "third": "done"}
    assert stage.done == ["first", "second", "third"]


def test_what_does_not_fit_is_left_and_named_and_goes_on(stage: Stage, tmp_path: Path) -> None:
    stage.ends["first"] = Ended("done", None, 45.0)
    path = tmp_path / "a.json"
    assert gather(path, minutes=1) == {"never": "lacking", "first": "done", "second": "left", "third": "left"}
    assert set(gather(path).values()) == {"lacking", "done"}
    assert stage.done == ["first", "second", "third"]


def test_what_failed_is_tried_again_behind_what_is_new(stage: Stage, tmp_path: Path) -> None:
    stage.ends["first"] = Ended("failed", "out of memory", 45.0)
    path = tmp_path / "a.json"
    gather(path, minutes=1)
    stage.ends.clear()
    gather(path)
    assert stage.done == ["first", "second", "third", "first"]


def test_what_speaks_against_the_code_is_a_failure_and_is_tried_again(stage: Stage, tmp_path: Path) -> None:
    stage.ends["first"] = Ended("done", None, 1.0, {"against": "4 files differ"})
    stage.ends["second"] = Ended("cut", "its 60 s were up", 60.0, {"against": "2 files differ"})
    stage.ends["third"] = Ended("failed", "out of memory", 1.0, {"against": None})
    path = tmp_path / "a.json"
    gather(path)
    assert [(entry.status, entry.reason) for entry in document.read(path).entries if entry.status != "lacking"] == [
        ("failed", "4 files differ"), ("cut", "its 60 s were up; 2 files differ"), ("failed", "out of memory"),
    ]  # fmt: skip
    stage.ends.clear()
    assert gather(path) == {"never": "lacking", "first": "done", "second": "done", "third": "done"}
    assert stage.done == ["first", "second", "third"] * 2


def test_an_entry_goes_by_its_own_code_even_if_it_shows_nothing(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    gather(path)
    assert list(document.read(path).entries[1].sources) == ["evidence/process.py"]
    gather(path)
    assert stage.done == ["first", "second", "third"]
    monkeypatch.setattr(runner.sources, "changed", sorted)
    gather(path)
    assert stage.done == ["first", "second", "third"] * 2


def test_an_entry_that_has_no_hashes_of_its_code_is_tried_again(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    found = runner.gather(path, "local", 10, FULL)
    former = [entry.model_copy(update={"sources": {}}) for entry in found.entries]
    document.write(path, found.model_copy(update={"entries": tuple(former)}))
    gather(path, only=("first",))
    assert stage.done == ["first", "second", "third", "first"]


def test_what_was_done_by_other_code_is_done_again(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"row": "a row", "where": ["linux"], "sources": ["evidence/runner.py"], "by": {}}
    stage.ends["first"] = Ended("done", None, 1.0, {}, [row])
    path = tmp_path / "a.json"
    gather(path)
    gather(path)
    assert stage.done.count("first") == 1
    monkeypatch.setattr(runner.sources, "changed", lambda kept: ["evidence/runner.py"] if kept else [])
    gather(path)
    assert stage.done.count("first") == 2


def test_a_device_that_vanishes_ends_it_and_what_was_measured_stays(stage: Stage, tmp_path: Path) -> None:
    stage.ends["second"] = Ended("failed", "device board: the connection broke", 5.0, {"ap": 0.4}, device_gone=True)
    path = tmp_path / "a.json"
    with pytest.raises(EnvironmentFault) as error:
        gather(path)
    assert error.value.problems == (
        f"device board: the connection broke; what was measured is in {path}, the same command goes on",
    )
    found = {entry.experiment: entry for entry in document.read(path).entries}
    assert {name: entry.status for name, entry in found.items()} == {
        "never": "lacking", "first": "done", "second": "failed", "third": "left",
    }  # fmt: skip
    assert found["second"].figures == {"ap": 0.4}


def test_a_file_of_another_machine_is_refused(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    gather(path)
    stage.machine["gpus"] = []
    with pytest.raises(InputError, match=r"was measured elsewhere \(machine: NVIDIA H200 there, A CPU here; gpus: "):
        gather(path)


def test_experiments_are_chosen_by_the_beginnings_of_their_names(stage: Stage, tmp_path: Path) -> None:
    gather(tmp_path / "a.json", only=("fir", "third"))
    assert stage.done == ["first", "third"]
    with pytest.raises(InputError, match=r"--only fourth: no experiment begins so \(there are: never, first, second, "):
        gather(tmp_path / "b.json", only=("fourth",))


def test_reasons_are_kept_without_paths(stage: Stage, tmp_path: Path) -> None:
    stage.ends["first"] = Ended("failed", "cannot read /home/anna/engine.plan", 1.0)
    gather(tmp_path / "a.json")
    found = document.read(tmp_path / "a.json")
    assert [entry.reason for entry in found.entries if entry.status == "failed"] == ["cannot read .../engine.plan"]


def names(machine: dict[str, Any], device: str = "local", scale: Any = FULL) -> list[str]:
    return [one.name for one in offered(Setting(machine, device, scale)) if one.lacking is None]


def test_a_gpu_machine_begins_with_what_only_it_can_show() -> None:
    found = names(MACHINE)
    assert found[:5] == ["gpu tests", "train step fp16", "train step fp32", "train step bf16", "bit-exact baseline"]
    assert found.index("target onnx-fp16 in CUDA provider") < found.index("gain") < found.index("target onnx-fp32")
    assert "two ranks" not in found  # one GPU
    assert not any("tensorrt" in name for name in found)


def test_a_board_is_asked_for_its_artifacts_alone() -> None:
    board = {**MACHINE["device"], "name": "board", "transport": "ssh", "runtimes": ["tensorrt"],
             "usable": {"tensorrt": "10.3"}, "programs": {"trtexec": True}}  # fmt: skip
    found = names({**MACHINE, "device": board}, "board")
    assert found[0] == "device tests"
    assert {"target tensorrt-fp16", "target tensorrt-int8 by trtexec", "nms in tensorrt-fp16", "sustained",
            "tensorrt-int8 against tensorrt-fp16"} <= set(found)  # fmt: skip
    assert not any(name.startswith(("gpu tests", "train", "gain", "target onnx")) for name in found)


def test_every_experiment_names_the_code_that_it_tries() -> None:
    found = {one.name: (kinds()[one.kind].source, *one.sources) for one in offered(Setting(MACHINE, "local", FULL))}
    without = {name for name, patterns in found.items() for one in patterns if not sources.hashes([one])}
    assert without == set()
    assert {"evidence/experiments/power.py", "evidence/sensors.py", "training/fit.py"} <= set(found["power"])
    assert "agent/runtimes/onnxruntime_runtime.py" in found["onnx-int8 against onnx-fp16"]
    assert "export/onnx_nms.py" in found["nms in onnx-fp32"]


@pytest.mark.parametrize("scale", [FULL, MINIATURE])
def test_every_experiment_has_a_limit_and_one_name(scale: Any) -> None:
    found = offered(Setting(MACHINE, "local", scale))
    assert len({one.name for one in found}) == len(found)
    assert all(0 < one.limit_s <= 600 for one in found)
