"""Whole commands in several processes, as a user starts them: by edgekd itself, on one machine and on two nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekd.atomic import read_json, sha256_file
from tests.ports import free_port
from tests.stages import tiny

pytestmark = pytest.mark.slow

EPOCHS = 8


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distillation in two processes on a CPU, of which the gate will think little."""
    folder = tmp_path_factory.mktemp("together")
    tiny.weights(folder / "teacher.safetensors", "yolo11n")
    tiny.weights(folder / "student.safetensors", "yolo11p")
    train = {
        "imgsz": 64, "epochs": EPOCHS, "batch": 8, "optimizer": "AdamW", "lr0": 0.0001, "mosaic": 0.5,
        "warmup_epochs": 0.0, "patience": 0, "device": "cpu", "gpus_per_node": 2,
    }  # fmt: skip
    return tiny.write_recipe(
        folder / "r.yaml", train=train, export=[tiny.export("onnx-fp32")], devices=None, gate={"min_ap": 0.99},
        control=False,
    )  # fmt: skip


def start(*arguments: object) -> subprocess.Popen[str]:
    """`edgekd ...` in a process of its own, outside any world."""
    kept = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    program = [sys.executable, "-c", "from edgekd.cli import main; main()", *(str(part) for part in arguments)]
    return subprocess.Popen(program, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=1500)
    return process.returncode, out, err


def test_run_in_two_processes(recipe: Path) -> None:
    """Rank 0 exports, judges and reports; the verdict is the exit code, and everything is said once."""
    out = recipe.parent / "run"
    code, shown, err = finished(start("run", recipe, "--out", out, "--set", "train.epochs=1"))
    assert code == 1, err
    assert shown.count("gate: fail") == 1
    assert err.count("AP50") == 2, err  # teacher and student
    assert "Traceback" not in err
    stages = read_json(out / "manifest.json")["stages"]
    assert list(stages) == ["data", "teacher", "student", "accuracy/student", "export/onnx-fp32", "gate", "report"]
    assert read_json(out / "report.json")["verdict"]["status"] == "fail"
    assert len((out / "validate" / "student@host.detections.jsonl").read_text().splitlines()) == 16
    assert len((out / "student" / "epochs.csv").read_text().splitlines()) == 2
    assert not list(out.rglob("*.tmp"))
    assert not list(out.rglob(".token-*"))

    again, _, err = finished(start("run", recipe, "--out", out, "--set", "train.epochs=1"))
    assert again == 1
    assert [line for line in err.splitlines() if line.endswith("kept")] == [
        f"{name}: unchanged, kept" for name in stages
    ]


def test_two_nodes_and_a_stop_between(recipe: Path) -> None:
    """Two nodes without a stop, and one machine with a stop by SIGTERM: the same weights, bit for bit."""
    whole, stopped = recipe.parent / "whole", recipe.parent / "stopped"
    node = ("distill", recipe, "--out", whole, "--set", "train.nodes=2", "--set", "train.gpus_per_node=1")
    place = ("--set", f"train.rendezvous=localhost:{free_port()}")
    ends = [finished(process) for process in [start(*node, *place) for _ in range(2)]]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert sorted(bool(shown) for _, shown, _ in ends) == [False, True]  # the node of rank 0 speaks

    training = start("distill", recipe, "--out", stopped)
    state = stopped / "student" / "resume.pt"
    while not state.exists() and training.poll() is None:
        time.sleep(0.05)
    training.send_signal(signal.SIGTERM)
    code, shown, err = finished(training)
    assert (code, shown) == (130, ""), err
    assert err.splitlines()[-1].startswith("edgekd: error: interrupted by SIGTERM in epoch "), err
    assert err.count("edgekd: error:") == 1

    code, _, err = finished(start("distill", recipe, "--out", stopped, "--set", "train.gpus_per_node=1"))
    assert code == 2
    assert "differs in world_size (2, now 1)" in err.splitlines()[-1]

    code, _, err = finished(start("distill", recipe, "--out", stopped))
    assert code == 0, err
    assert "going on from epoch" in err
    assert sha256_file(stopped / "student" / "student.pt") == sha256_file(whole / "student" / "student.pt")
    for file in ("epochs.csv", "terms.csv"):
        assert (stopped / "student" / file).read_text() == (whole / "student" / file).read_text()
    for name in ("teacher", "student"):
        summaries = [read_json(run / "validate" / f"{name}@host.json") for run in (whole, stopped)]
        assert summaries[0]["ap"] == summaries[1]["ap"]


def test_an_error_on_one_node_ends_both(recipe: Path) -> None:
    """Rank 0 alone looks at the data; the other node waits for it meanwhile."""
    out = recipe.parent / "nodata"
    changes = ("nodes=2", "gpus_per_node=1", f"rendezvous=localhost:{free_port()}")
    options = [part for change in changes for part in ("--set", f"train.{change}")]
    data = ("--set", "data={format: yolo, path: nowhere/data.yaml}")
    ends = [
        finished(process) for process in [start("distill", recipe, "--out", out, *options, *data) for _ in range(2)]
    ]
    assert [code for code, _, _ in ends] == [2, 2], ends
    lines = [line for _, _, err in ends for line in err.splitlines()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("edgekd: error: ")
    assert "nowhere/data.yaml" in lines[0]


def test_a_killed_process_ends_the_run_and_the_same_command_goes_on(recipe: Path) -> None:
    out = recipe.parent / "killed"
    training = start("distill", recipe, "--out", out)
    while not (out / "student" / "resume.pt").exists() and training.poll() is None:
        time.sleep(0.05)
    children = Path(f"/proc/{training.pid}/task/{training.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    code, _, err = finished(training)
    assert code == 4
    assert "edgekd: error: process 1 was killed (SIGKILL)" in err
    code, shown, err = finished(start("distill", recipe, "--out", out, "--json"))
    assert code == 0, err
    assert json.loads(shown)["student"]["epochs"] == EPOCHS


def test_extractors_are_prepared_in_two_processes(recipe: Path) -> None:
    """As a whole, and with a stop by SIGTERM: the same weights, bit for bit, and one AP of what was absorbed."""
    whole, stopped = recipe.parent / "prepared", recipe.parent / "prepared-stopped"
    method = "distill=[{method: unikd, queries: 6, width: 16, absorb_epochs: 24}]"  # 5 s to stop it in
    code, _, err = finished(start("prepare", recipe, "--out", whole, "--set", method))
    assert code == 0, err
    assert err.count("of what was absorbed") == 1

    training = start("prepare", recipe, "--out", stopped, "--set", method)
    while not (stopped / "prepare" / "unikd" / "resume.pt").exists() and training.poll() is None:
        time.sleep(0.05)
    training.send_signal(signal.SIGTERM)
    code, shown, err = finished(training)
    assert (code, shown) == (130, ""), err
    code, _, err = finished(start("prepare", recipe, "--out", stopped, "--set", method))
    assert code == 0, err
    assert "going on from epoch" in err
    for file in ("prepared.safetensors", "epochs.csv", "metrics.json"):
        left = [run / "prepare" / "unikd" / file for run in (whole, stopped)]
        assert sha256_file(left[0]) == sha256_file(left[1]), file
