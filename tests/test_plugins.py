"""Methods and families of other packages: found by entry points, named with their package, and never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

METHOD = '''
"""A method of another package."""

import torch

from edgekd.detectors.spec import Needs
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Card, Distiller, Wiring, register


@register("mean_score")
class MeanScore(Distiller):
    config_type = DistillerConfig
    card = Card(about="the mean of all class scores", title="None", venue="none", level="head")

    def build(self, pair):
        needs = Needs(parts=frozenset({"class_logits"}))
        return Wiring(needs, needs)

    def knowledge(self, teacher, batch):
        return {"mean": teacher.dense["one2many"].class_logits.mean((1, 2))}

    def terms(self, student, knowledge, batch, moment):
        return {"mean": (student.dense["one2many"].class_logits.mean((1, 2)) - knowledge["mean"]).square().mean()}
'''
ENTRIES = (
    "[edgekd.methods]\nmean = other_methods.mean_score\nbroken = other_methods.broken\nabsent = other_methods.absent\n"
    "faulty = other_methods.faulty\n"
    "[edgekd.families]\ntoy = other_methods.toy\nbroken = other_methods.broken\n"
    "[edgekd.targets]\nboard = other_methods.board\nbroken = other_methods.broken\n"
    "[edgekd.devices]\nboard = other_methods.board\n"
    "[edgekd.transports]\npipe = other_methods.pipe\nbroken = other_methods.broken\n"
)
BROKEN = "warning: plugin 'broken' of package other-methods is left out: RuntimeError: not today"
STEP = '''
"""A step of another package: a copy of the ONNX file that says who made it."""

from edgekd.export.contract import register


@register("stamped", source="onnx", target="onnx", runtime="onnxruntime", precisions=("fp32",))
def export(source, job, folder):
    raise NotImplementedError
'''
TARGET = """# ONNX with a stamp of the board.
steps: [onnx, stamped]
runtime: onnxruntime
precision: fp32
tolerance: {max_abs_score: 0.001, max_abs_box_px: 0.5}
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has the package `other-methods` installed."""
    package, facts = tmp_path / "other_methods", tmp_path / "other_methods-1.0.dist-info"
    package.mkdir()
    facts.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mean_score.py").write_text(METHOD)
    family = (Path(__file__).parent / "detectors" / "toy.py").read_text()
    registered = "\nfrom edgekd.detectors.families import register\n\nregister(ToyFamily())\n"
    (package / "toy.py").write_text(family + registered)
    transport = (Path(__file__).parent / "devices" / "pipe.py").read_text()
    registered = "\nfrom edgekd.devices.transports import register\n\nregister(PIPE)\n"
    (package / "pipe.py").write_text(transport + registered)
    without_card = METHOD.replace("mean_score", "faulty").replace("    card = Card", "    about = Card")
    (package / "faulty.py").write_text(without_card)
    (package / "broken.py").write_text("raise RuntimeError('not today')\n")
    (package / "board.py").write_text(STEP)
    for folder, text in (("export", TARGET), ("devices", "# A board.\ntransport: ssh\nruntimes: [onnxruntime]\n")):
        (package / folder).mkdir()
        (package / folder / "board.yaml").write_text(text)
        (package / folder / "faulty.yaml").write_text("# Of another version.\nruntime: onnxruntime\n")
    piped = f"# Here, through a pipe.\ntransport: pipe\nruntimes: [onnxruntime]\npython: {sys.executable}\n"
    (package / "devices" / "piped.yaml").write_text(f"{piped}folder: {tmp_path}/piped\noptions: {{shell: sh}}\n")
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: other-methods\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRIES)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def edgekd(installed: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekd.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=installed, timeout=300, check=False)


def test_a_method_of_another_package_is_listed_with_it(installed: dict[str, str]) -> None:
    done = edgekd(installed, "methods", "--json")
    rows = {row["method"]: row for row in json.loads(done.stdout)}
    assert rows["mean_score"]["package"] == "other_methods" and rows["cwd"]["package"] == "edgekd"
    assert done.returncode == 0


def test_a_broken_plugin_is_one_line_and_nothing_else(installed: dict[str, str]) -> None:
    done = edgekd(installed, "methods", "mean_score")
    assert done.returncode == 0 and "the mean of all class scores" in done.stdout
    assert done.stderr.splitlines() == [
        "warning: plugin 'absent' of package other-methods is left out: ModuleNotFoundError: "
        "No module named 'other_methods.absent'",
        BROKEN,
        "warning: plugin 'faulty' of package other-methods is left out: TypeError: distiller 'faulty' has no card; "
        "write card = Card(about=..., title=..., ...)",
    ]


def test_a_family_of_another_package_is_one(installed: dict[str, str]) -> None:
    done = edgekd(
        installed, "check", "quickstart", "--architecture-only", "--json", "--set", "student.model=toy-s", "--set",
        "distill=[pkd]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["student"]["family"] == "toy"
    assert BROKEN in done.stderr.splitlines()


def test_targets_and_devices_of_another_package_are_found_by_name(installed: dict[str, str]) -> None:
    targets = edgekd(installed, "targets", "--json")
    rows = {row["target"]: row for row in json.loads(targets.stdout)}
    assert rows["board"]["steps"] == ["onnx", "stamped"] and "onnx-fp32" in rows
    faulty = [line.partition(": InputError")[0] for line in targets.stderr.splitlines()]
    assert targets.returncode == 0
    assert faulty == [BROKEN, "warning: faulty.yaml of package other_methods is left out"]
    devices = edgekd(installed, "devices", "--json")
    assert {"board", "local"} <= {row["device"] for row in json.loads(devices.stdout)}
    done = edgekd(
        installed, "check", "quickstart", "--architecture-only", "--json", "--set", "export=[board]", "--set",
        "devices=[board]", "--set", "gate={}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["targets"], found["devices"]) == (["board"], ["board"])


def test_a_transport_of_another_package_reaches_its_devices(installed: dict[str, str]) -> None:
    done = edgekd(installed, "devices", "--json")
    rows = {row["device"]: row for row in json.loads(done.stdout)}
    assert (rows["piped"]["transport"], rows["piped"]["where"]) == ("pipe", "sh")
    told = [line.partition(": InputError")[0] for line in done.stderr.splitlines()]
    assert done.returncode == 0 and sorted(told) == [
        "warning: faulty.yaml of package other_methods is left out",
        BROKEN,
    ]
    done = edgekd(installed, "doctor", "--device", "piped", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["transport"] == "pipe"


def test_help_does_not_load_plugins(installed: dict[str, str]) -> None:
    done = edgekd(installed, "--help")
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.slow
def test_the_whole_road_runs_with_it(installed: dict[str, str], tmp_path: Path) -> None:
    """Data to report, on a few images: a method from outside is a method."""
    changes = {
        "data.train": 16, "data.val": 4, "data.test": 4, "train.epochs": 1, "train.batch": 8, "threads": 1,
        "export": "[onnx-fp32]", "distill": "[mean_score]", "profile.protocol": "quick", "gate": "{min_ap: 0}",
        "devices": "[piped]",
    }  # fmt: skip
    options = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    done = edgekd(installed, "run", "quickstart", "--out", str(tmp_path / "run"), *options)
    assert done.returncode == 0, done.stderr
    terms = (tmp_path / "run" / "student" / "terms.csv").read_text()
    assert "mean_score.mean" in terms
    assert [path.name for path in (tmp_path / "run" / "profile").glob("*.json")] == ["onnx-fp32@piped.json"]


@pytest.mark.slow
def test_the_whole_road_runs_with_a_student_of_such_a_family(installed: dict[str, str], tmp_path: Path) -> None:
    """Data to report: trained, distilled, trained for int8, exported, measured on a device."""
    changes = {
        "data.train": 32, "data.val": 4, "data.test": 4, "train.epochs": 1, "train.batch": 8, "threads": 1,
        "student.model": "toy-s", "distill": "[pkd]", "quantize": "{mode: qat, epochs: 1}",
        "export": "[onnx-fp32, {target: onnx-int8, options: {onnx-int8: {calibration_images: 16}}}]",
        "profile.protocol": "quick", "gate": "{min_ap: 0}",
    }  # fmt: skip
    options = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    run = tmp_path / "run"
    done = edgekd(installed, "run", "quickstart", "--out", str(run), *options)
    assert done.returncode == 0, done.stderr
    assert (run / "student_qat" / "student.safetensors").is_file()
    assert {path.parent.name for path in run.glob("export/*/parity.json")} == {"onnx-fp32", "onnx-int8"}
