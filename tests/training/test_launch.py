"""Starting the processes that train together. The processes are stand-ins, which import nothing of edgekd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekd.errors import EnvironmentFault, InputError
from edgekd.training import launch
from edgekd.training.launch import LaunchRequest

TWO = LaunchRequest("r", True, per_node=2, cpu=True)
# In FOLDER/<rank>: what the process was told. Then it ends as `codes` says; "wait" until a signal, which it obeys.
STAND_IN = """
import json, os, pathlib, signal, sys, time
folder, codes = pathlib.Path(sys.argv[1]), sys.argv[2].split(",")
code = codes[int(os.environ["RANK"])]
told = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
if code == "wait":
    def stop(number, frame):
        time.sleep(0.5)  # saves
        (folder / f"saved{os.environ['RANK']}").touch()
        sys.exit(130)
    signal.signal(signal.SIGTERM, stop)
(folder / os.environ["RANK"]).write_text(json.dumps([told, sys.argv[3:], sys.path[0] in ("", os.getcwd())]))
while code == "wait":
    time.sleep(0.05)
print("out of", os.environ["RANK"])
os.kill(os.getpid(), signal.SIGKILL) if code == "kill" else sys.exit(int(code))
"""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    preamble = launch._PROGRAM.split(";")[:2]  # that of the real program, which decides what can be imported
    monkeypatch.setattr(launch, "_PROGRAM", "\n".join(part.strip() for part in preamble) + STAND_IN)
    monkeypatch.delenv("PYTHONPATH", raising=False)  # which may name the current folder again


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In no world, wherever the tests run."""
    for name in [name for name in os.environ if name.startswith("SLURM") or name in ("RANK", "WORLD_SIZE")]:
        monkeypatch.delenv(name)


def test_every_process_runs_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    assert launch.start(TWO, [str(tmp_path), "0,0", "--set", "a=b c"]) == 0
    for rank in ("0", "1"):
        told = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"}
        assert json.loads((tmp_path / rank).read_text()) == [told, ["--set", "a=b c"], False]
    shown = capfd.readouterr()
    assert sorted(shown.out.splitlines()) == ["out of 0", "out of 1"]
    assert shown.err == ""
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.parametrize(("codes", "code"), [("5,5", 5), ("wait,2", 2), ("3,wait", 3)])
def test_exit_codes_come_through(tmp_path: Path, capfd: pytest.CaptureFixture[str], codes: str, code: int) -> None:
    assert launch.start(TWO, [str(tmp_path), codes]) == code
    assert capfd.readouterr().err == "", "torchrun speaks"


def test_a_killed_process_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"^process 1 was killed \(SIGKILL\); if for want of memory, lower "):
        launch.start(TWO, [str(tmp_path), "wait,kill"])


def test_sigterm_reaches_the_processes_which_save(tmp_path: Path) -> None:
    program = (
        f"import sys; from edgekd.training import launch; launch._PROGRAM = {launch._PROGRAM!r}\n"
        f"request = launch.LaunchRequest('r', True, per_node=2, cpu=True)\n"
        f"sys.exit(launch.start(request, [{str(tmp_path)!r}, 'wait,wait']))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not all((tmp_path / rank).exists() for rank in "01") and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    _, err = parent.communicate(timeout=300)
    assert parent.returncode == 130
    assert err == ""
    assert all((tmp_path / f"saved{rank}").exists() for rank in "01")


@pytest.mark.parametrize(
    ("train", "line"),
    [
        ("{nodes: 2}", "train.rendezvous: missing; 2 nodes meet at host:port of one of them, e.g. node1:29500"),
        ("{nodes: 2, rendezvous: node1}", "train.rendezvous: got 'node1', allowed: host:port, e.g. node1:29500"),
    ],
)
def test_several_nodes_need_a_place_to_meet(tmp_path: Path, alone: None, train: str, line: str) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"name: r\ntrain: {train}\n")
    with pytest.raises(InputError) as error:
        launch.enter(recipe, (), [])
    assert error.value.problems == (f"{recipe}: {line}",)


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(EnvironmentFault, match=r"^train\.gpus_per_node: got 4, this machine has 2 GPUs$"):
        launch.start(LaunchRequest("r", True, per_node=4), [])


def test_nodes_that_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "JOIN_TIMEOUT_S", 1.0)
    request = LaunchRequest("r", True, nodes=2, rendezvous="localhost:0", cpu=True)  # port 0: any free one
    with pytest.raises(
        EnvironmentFault, match=r"train\.rendezvous: localhost:0: .*; start the same command on all 2 nodes"
    ):
        launch.start(request, [str(tmp_path), "0,0"])


def test_what_a_recipe_asks_for(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: street\ntrain: {nodes: 2, gpus_per_node: 4, rendezvous: 'node1:29500', device: cpu}\n")
    assert launch.wanted(recipe, ()) == LaunchRequest("street", True, 2, 4, "node1:29500", cpu=True)
    assert launch.wanted(recipe, ("train.nodes=1",)).size == 4
    recipe.write_text("name: street\n")
    assert launch.wanted(recipe, ()) == LaunchRequest("street")
    # What is wrong is left to the check of the whole recipe, which tells of all problems at once.
    recipe.write_text("train: {nodes: -1, gpus_per_node: '4', rendezvous: 7}\n")
    assert launch.wanted(recipe, ()).size == 1


def test_one_process_stays_in_this_one(tmp_path: Path, alone: None) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: street\n")
    assert launch.enter(recipe, (), []) is None
