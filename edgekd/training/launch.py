"""Becomes one of the processes that train together: joins those that torchrun or SLURM started, or starts torchrun.

Every process runs the same command. What torchrun is told comes from the recipe: `train: {nodes: 2, gpus_per_node: 4,
rendezvous: node1:29500}`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd import ranks
from edgekd.errors import EnvironmentFault, InputError
from edgekd.ranks.environment import host_and_port, stated
from edgekd.ranks.group import JOIN_TIMEOUT_S
from edgekd.training.engines.process import SETTINGS_FOLDER

# The command again, as each process runs it. Not `-m`, which would let files of the current folder pass for modules.
_PROGRAM = "import sys; sys.path = [entry for entry in sys.path if entry]; from edgekd.__main__ import main; main()"
_STOP_S = 600  # after SIGTERM, for saving a training state on a slow disk
_STORE_GRACE_S = 2  # the rendezvous store outlives this node's processes by so long
_INTERRUPTED = 130
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # passed on to the processes


@dataclass(frozen=True)
class LaunchRequest:
    """What the recipe asks for.

    Attributes:
        name: the recipe's; processes of different runs do not meet.
        given: it says how many processes there are.
        rendezvous: `host:port` where several nodes meet.
        cpu: the processes train on a CPU.
    """

    name: str
    given: bool = False
    nodes: int = 1
    per_node: int = 1
    rendezvous: str | None = None
    cpu: bool = False

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.nodes * self.per_node


def enter(
    recipe: Path,
    overrides: tuple[str, ...],
    arguments: Sequence[str] | None,
    content: dict[str, Any] | None = None,
) -> int | None:
    """Join the other processes, or start them.

    Args:
        arguments: the command line, for the processes that are started; None where there is none that could be.
        content: the recipe itself, made in Python; `recipe` then stands for it in messages.

    Returns:
        The exit code of those that were started: all is done. None: this process is one of them, or alone; go on.

    Raises:
        InputError: their number is not the recipe's, or several nodes have no place to meet.
        EnvironmentFault: they cannot meet, one was killed, or the machine has fewer GPUs.
    """
    request = wanted(recipe, overrides, content)
    world = stated(os.environ, request.rendezvous)
    if (world is None and request.size == 1) or ranks.size() > 1:
        return None
    if world is None and arguments is None:
        raise InputError(
            f"{recipe}: train.nodes, train.gpus_per_node: {request.size} processes each read the recipe, which was "
            f"made in Python; write it by recipe.write(FILE) and run that file"
        )
    if world is None:
        assert arguments is not None
        _require_meeting(recipe, request)
        return start(request, arguments)
    ranks.join(world.world, world.address, world.port, hosted=world.hosted)
    if request.given and request.size != world.world.size:
        raise InputError(
            f"{recipe}: train.nodes, train.gpus_per_node: ask for {request.nodes} x {request.per_node} = "
            f"{request.size} processes, but {world.launcher} started {world.world.size}; start as many, or leave both "
            f"keys out"
        )
    return None


def wanted(recipe: Path, overrides: tuple[str, ...], given: dict[str, Any] | None = None) -> LaunchRequest:
    """What a recipe asks for. Whatever is wrong with it is reported where the whole recipe is checked.

    Raises:
        InputError: it cannot be read.
    """
    from edgekd.recipe.load import completed, content_of

    known = content_of(recipe) if given is None else given
    content = completed(known, recipe, overrides, tell=False)  # it is told where the recipe is checked
    train = content.get("train")
    train = train if isinstance(train, dict) else {}
    counts = {key: train[key] for key in ("nodes", "gpus_per_node") if type(train.get(key)) is int and train[key] > 0}
    rendezvous = train.get("rendezvous")
    return LaunchRequest(
        name=str(content.get("name")),
        given=bool(counts),
        nodes=counts.get("nodes", 1),
        per_node=counts.get("gpus_per_node", 1),
        rendezvous=rendezvous if isinstance(rendezvous, str) else None,
        cpu=train.get("device") == "cpu",
    )


def start(request: LaunchRequest, arguments: Sequence[str]) -> int:
    """Run the command in several processes by torchrun, on this machine; the other nodes do the same.

    Returns:
        Their exit code. They have told the user why.

    Raises:
        EnvironmentFault: the nodes cannot meet, a process was killed, or the machine has fewer GPUs.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch is imported; the processes inherit it
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(_STOP_S)
    _require_gpus(request)
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    with _quiet_torchrun() as scratch:
        try:
            elastic_launch(_config(request, scratch), sys.executable)("-c", _PROGRAM, *arguments)
        except ChildFailedError as error:
            if request.nodes > 1:
                time.sleep(
                    _STORE_GRACE_S
                )  # this machine may keep the rendezvous, which torchrun asks everywhere meanwhile
            return _exit_code(error)
        except SignalException:
            return _INTERRUPTED
        except RendezvousError as error:
            raise EnvironmentFault(
                f"train.rendezvous: {request.rendezvous or 'localhost'}: {' '.join(str(error).split())[:160]}; "
                f"start the same command on all {request.nodes} nodes, and give a host:port of one that all can reach"
            ) from error
    return 0


@contextmanager
def _quiet_torchrun() -> Iterator[str]:
    """Torchrun without its reports, signal handlers and files; yields a folder for the latter."""
    handlers = {kind: signal.getsignal(kind) for kind in _SIGNALS}
    sys.stdout.flush()
    logging.disable(logging.CRITICAL)  # it tells at length what a process has told in a line
    with tempfile.TemporaryDirectory(prefix="edgekd-torchrun-") as scratch:
        config = os.environ.setdefault(SETTINGS_FOLDER, f"{scratch}/engine")  # a process that is ended leaves its own
        try:
            yield scratch
        finally:
            if config.startswith(scratch):
                del os.environ[SETTINGS_FOLDER]
            logging.disable(logging.NOTSET)
            for kind, handler in handlers.items():
                signal.signal(kind, handler)


def _config(request: LaunchRequest, scratch: str) -> Any:
    """One world, started once: a training that ends goes on by the same command, not by itself."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    endpoint = "localhost:0"  # a free port
    if request.nodes > 1 and request.rendezvous is not None:
        endpoint = request.rendezvous
    return LaunchConfig(
        min_nodes=request.nodes,
        max_nodes=request.nodes,
        nproc_per_node=request.per_node,
        run_id=f"edgekd-{request.name}",
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint,
        rdzv_configs={"join_timeout": int(JOIN_TIMEOUT_S), "read_timeout": max(1, int(JOIN_TIMEOUT_S))},
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(log_dir=scratch),
    )


def _require_meeting(recipe: Path, request: LaunchRequest) -> None:
    try:
        if request.rendezvous is not None:
            host_and_port(request.rendezvous)
        elif request.nodes > 1:
            raise InputError(
                f"train.rendezvous: missing; {request.nodes} nodes meet at host:port of one of them, e.g. node1:29500"
            )
    except InputError as error:
        raise InputError(*(f"{recipe}: {problem}" for problem in error.problems)) from None


def _require_gpus(request: LaunchRequest) -> None:
    import torch

    count = torch.cuda.device_count()
    if not request.cpu and 0 < count < request.per_node:
        raise EnvironmentFault(f"train.gpus_per_node: got {request.per_node}, this machine has {count} GPUs")


def _exit_code(error: Any) -> int:
    """Of the process that failed first; those that were ended for it come after, or by a signal.

    Raises:
        EnvironmentFault: one was killed, and could not tell.
    """
    failures = sorted(error.failures.items(), key=lambda item: item[1].timestamp)
    codes = [(rank, int(failure.exitcode)) for rank, failure in failures]
    asked = (-signal.SIGTERM, -signal.SIGINT)
    for rank, code in codes:
        if code < 0 and code not in asked:
            name = signal.Signals(-code).name
            raise EnvironmentFault(
                f"process {rank} was killed ({name}); if for want of memory, lower train.batch, train.workers or "
                f"train.cache; the same command goes on"
            )
    return next((code for _, code in codes if code > 0), _INTERRUPTED)
