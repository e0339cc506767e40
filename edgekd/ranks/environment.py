"""The world as the environment states it: variables of torchrun, or of a SLURM job step."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgekd.errors import EnvironmentFault, InputError
from edgekd.ranks.group import World

_PORTS = range(20000, 30000)  # below those that Linux hands out by itself


@dataclass(frozen=True)
class Stated:
    """Who this process is, and where the processes meet.

    Attributes:
        launcher: what started it, for messages.
        hosted: the launcher keeps the store; False lets rank 0 do so.
    """

    world: World
    address: str
    port: int
    launcher: str
    hosted: bool = False


def stated(
    environment: Mapping[str, str], rendezvous: str | None = None, first_host: Callable[[str], str] | None = None
) -> Stated | None:
    """What the environment says; None if this process is alone.

    Args:
        environment: the process's variables.
        rendezvous: `host:port` of the recipe, for a SLURM step whose variables do not name rank 0's machine.
        first_host: first name of a SLURM node list; asks `scontrol` when None.

    Raises:
        InputError: a variable is missing or no number.
        EnvironmentFault: `scontrol` fails.
    """
    if (environment.get("WORLD_SIZE") or "1") != "1":
        return _torchrun(environment)
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or "1"
    # A batch script itself has these variables, too, but is no step of several tasks: only srun makes one.
    if "SLURM_STEP_ID" in environment and int(tasks) > 1:
        return _slurm(environment, int(tasks), rendezvous, first_host or _first_host)
    return None


def host_and_port(rendezvous: str) -> tuple[str, int]:
    """Both parts of `host:port`; an IPv6 address stands in brackets.

    Raises:
        InputError: it is not of this form.
    """
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]/]+):(\d{1,5})", rendezvous)
    if found is None or not 0 < int(found[2]) < 65536:
        raise InputError(f"train.rendezvous: got {rendezvous!r}, allowed: host:port, e.g. node1:29500")
    return found[1].strip("[]"), int(found[2])


def _torchrun(environment: Mapping[str, str]) -> Stated:
    rank, size = _number(environment, "RANK", "torchrun"), _number(environment, "WORLD_SIZE", "torchrun")
    local_rank = _number(environment, "LOCAL_RANK", "torchrun")
    local_size = int(environment.get("LOCAL_WORLD_SIZE") or size)
    address, port = environment.get("MASTER_ADDR", "localhost"), _number(environment, "MASTER_PORT", "torchrun")
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Stated(World(rank, size, local_rank, local_size), address, port, "torchrun", hosted)


def _slurm(
    environment: Mapping[str, str], size: int, rendezvous: str | None, first_host: Callable[[str], str]
) -> Stated:
    rank, local_rank = (_number(environment, name, "SLURM") for name in ("SLURM_PROCID", "SLURM_LOCALID"))
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE") or str(size)
    local_size = _tasks_of_node(tasks, int(environment.get("SLURM_NODEID") or 0))
    job = int(environment.get("SLURM_JOB_ID") or 0) + int(environment["SLURM_STEP_ID"])
    address, port = environment.get("MASTER_ADDR"), _PORTS[job % len(_PORTS)]
    if address is None and rendezvous is not None:
        address, port = host_and_port(rendezvous)
    elif address is None:
        nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST")
        address = first_host(nodes) if nodes else "localhost"
    port = int(environment.get("MASTER_PORT") or port)
    return Stated(World(rank, size, local_rank, local_size), address, port, "SLURM")


def _number(environment: Mapping[str, str], name: str, launcher: str) -> int:
    value = environment.get(name, "")
    if not value.isdigit():
        raise InputError(
            f"environment: {name} is {value!r}, but {launcher} sets it to a number; "
            f"unset its other variables to train alone, or let edgekd start the processes (train.gpus_per_node)"
        )
    return int(value)


def _tasks_of_node(text: str, node: int) -> int:
    """Tasks on a node, from SLURM's run-length form: `4(x2),3` is 4, 4, 3."""
    counts = [
        int(found[1])
        for part in text.split(",")
        if (found := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip()))
        for _ in range(int(found[2] or 1))
    ]
    return counts[node] if node < len(counts) else 1


def _first_host(nodes: str) -> str:
    command = ["scontrol", "show", "hostnames", nodes]
    remedy = "set MASTER_ADDR, or train.rendezvous in the recipe, to rank 0's machine"
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentFault(f"SLURM: '{' '.join(command)}' failed ({error}); {remedy}") from error
    if not shown:
        raise EnvironmentFault(f"SLURM: '{' '.join(command)}' names no host; {remedy}")
    return shown[0]
