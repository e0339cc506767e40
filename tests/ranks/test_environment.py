"""The world as torchrun and SLURM state it."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from edgekd.errors import EdgekdError, EnvironmentFault, InputError
from edgekd.ranks import World
from edgekd.ranks.environment import Stated, host_and_port, stated

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
}  # fmt: skip
SLURM = {
    "SLURM_JOB_ID": "4242", "SLURM_STEP_ID": "1", "SLURM_PROCID": "5", "SLURM_NTASKS": "7", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "4,3", "SLURM_STEP_NODELIST": "gpu[07-08]",
}  # fmt: skip


def first(nodes: str) -> str:
    assert nodes == "gpu[07-08]"
    return "gpu07"


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}, {"SLURM_STEP_ID": "0"}])
def test_alone(environment: dict[str, str]) -> None:
    assert stated(environment) is None


def test_torchrun() -> None:
    assert stated(TORCHRUN) == Stated(World(5, 8, 1, 4), "node1", 29500, "torchrun", hosted=False)
    kept = stated({**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "True"})
    assert kept is not None
    assert kept.hosted


def test_slurm_step() -> None:
    # The port follows from job and step, so that two steps of a job do not meet.
    assert stated(SLURM, first_host=first) == Stated(World(5, 7, 1, 3), "gpu07", 24243, "SLURM")


def test_a_step_of_fewer_tasks_than_its_job() -> None:
    step = {**SLURM, "SLURM_STEP_NUM_TASKS": "1"}
    assert stated(step, first_host=first) is None


def test_a_batch_script_is_no_step() -> None:
    script = {key: value for key, value in SLURM.items() if "STEP" not in key}
    assert stated({**script, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, first_host=first) is None


@pytest.mark.parametrize(
    ("more", "rendezvous", "place"),
    [
        ({"MASTER_ADDR": "a"}, "b:1234", ("a", 24243)),
        ({"MASTER_ADDR": "a", "MASTER_PORT": "77"}, None, ("a", 77)),
        ({}, "b:1234", ("b", 1234)),
        ({"MASTER_PORT": "77"}, "b:1234", ("b", 77)),
        ({}, None, ("gpu07", 24243)),
    ],
)
def test_where_slurm_processes_meet(more: dict[str, str], rendezvous: str | None, place: tuple[str, int]) -> None:
    found = stated({**SLURM, **more}, rendezvous, first)
    assert found is not None
    assert (found.address, found.port) == place


@pytest.mark.parametrize(
    ("tasks", "node", "count"), [("4(x2),3", 0, 4), ("4(x2),3", 1, 4), ("4(x2),3", 2, 3), ("8", 0, 8)]
)
def test_tasks_of_a_node(tasks: str, node: int, count: int) -> None:
    found = stated({**SLURM, "SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NODEID": str(node)}, first_host=first)
    assert found is not None
    assert found.world.local_size == count


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({**TORCHRUN, "RANK": ""}, "environment: RANK is '', but torchrun sets it to a number; unset its other"),
        ({"WORLD_SIZE": "many"}, "environment: RANK is '', but torchrun"),
        ({**SLURM, "SLURM_LOCALID": "x"}, "environment: SLURM_LOCALID is 'x', but SLURM sets it to a number"),
    ],
)
def test_half_an_environment(environment: dict[str, str], line: str) -> None:
    with pytest.raises(InputError) as error:
        stated(environment, first_host=first)
    assert error.value.problems[0].startswith(line)


def test_scontrol_names_the_first_host(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def scontrol(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "gpu07\ngpu08\n", "")

    monkeypatch.setattr(subprocess, "run", scontrol)
    found = stated(SLURM)
    assert found is not None
    assert found.address == "gpu07"
    assert asked == [["scontrol", "show", "hostnames", "gpu[07-08]"]]


def test_without_scontrol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentFault, match=r"SLURM: 'scontrol show hostnames gpu\[07-08\]' failed .*MASTER_ADDR"):
        stated(SLURM)


def test_rendezvous() -> None:
    assert host_and_port("node1:29500") == ("node1", 29500)
    assert host_and_port("[fe80::1]:80") == ("fe80::1", 80)
    for wrong in ("node1", "node1:", ":80", "a:b:80", "node1:0", "node1:65536", "http://a:80", "a b:80"):
        with pytest.raises(EdgekdError, match=r"train\.rendezvous: got "):
            host_and_port(wrong)
