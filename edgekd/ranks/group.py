"""One process among those that train together: joining them, exchanging values, leaving."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from edgekd.errors import EnvironmentFault
from edgekd.ranks.alarm import Alarm

T = TypeVar("T")

_ENGINE_TIMEOUT = timedelta(hours=3)  # one gradient exchange, one scan of the data set: as in the engine
_CONTROL_TIMEOUT = timedelta(days=60)  # rank 0 exports and profiles for as long as it takes
JOIN_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class World:
    """What a process is among the processes that train together.

    Attributes:
        rank: its number, from 0; rank 0 is the one that writes and speaks.
        size: how many there are.
        local_rank: its number among those on its machine.
        local_size: how many these are.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


@dataclass(frozen=True)
class _Joined:
    world: World
    control: Any  # a process group of its own: the engine's collectives never mix with ours
    alarm: Alarm


_ALONE = World()
_joined: _Joined | None = None


def world() -> World:
    """The world that this process has joined; a world of one before."""
    return _joined.world if _joined else _ALONE


def size() -> int:
    """Number of processes that train together."""
    return world().size


def rank() -> int:
    """This process's number, from 0."""
    return world().rank


def is_main() -> bool:
    """Whether this process writes and speaks for all."""
    return rank() == 0


def join(own: World, address: str, port: int, *, hosted: bool, timeout_s: float = JOIN_TIMEOUT_S) -> None:
    """Meet the other processes. Before the engine is imported, which reads who it is from the environment, once.

    Args:
        own: who this process is.
        address, port: where rank 0, or the launcher, keeps the store through which all find each other.
        hosted: the launcher keeps it; False lets rank 0 do so.
        timeout_s: how long to wait for the others.

    Raises:
        EnvironmentFault: the store cannot be reached, or not all came.
    """
    global _joined  # noqa: PLW0603 (a process belongs to one world)
    if own.size == 1:
        return
    os.environ |= {"RANK": str(own.rank), "WORLD_SIZE": str(own.size), "LOCAL_RANK": str(own.local_rank)}
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its retries while connecting are no news
    import torch
    import torch.distributed as dist
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # the launcher's store outlives its restarts
    store = _meet(own, address, port, hosted, timeout_s, attempt)
    cuda = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", store=PrefixStore(f"edgekd/{attempt}/group", store),
        rank=own.rank, world_size=own.size, timeout=_ENGINE_TIMEOUT,
    )  # fmt: skip
    control = dist.new_group(backend="gloo", timeout=_CONTROL_TIMEOUT)
    client = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=30))
    alarm = Alarm(
        PrefixStore(f"edgekd/{attempt}/alarm", client), own.rank, own.size,
        keeps_store=own.rank == 0 and not hosted, speaks=own.local_rank == 0,
    )  # fmt: skip
    alarm.start()
    _joined = _Joined(own, control, alarm)


def leave(exit_code: int) -> int:
    """The end, after everything is written and printed: all ranks meet, and leave with the exit code of rank 0."""
    global _joined  # noqa: PLW0603
    if _joined is None:
        return exit_code
    import torch.distributed as dist

    exit_code = broadcast(exit_code)
    _joined.alarm.stop()
    wait()  # no one takes the store away while another still listens for the alarm
    _joined = None
    dist.destroy_process_group()
    return exit_code


def is_first_to_fail() -> bool:
    """Whether a process that ends with an error tells the user; of all, one does."""
    return _joined.alarm.is_first() if _joined else True


def end_others(exit_code: int) -> None:
    """After the user was told: end all others with the same exit code, wherever they are."""
    if _joined is not None:
        _joined.alarm.sound(exit_code)


def is_loss(error: BaseException) -> bool:
    """Whether an error means that another process went away in the middle of an exchange."""
    if _joined is None or not isinstance(error, RuntimeError):
        return False
    text = f"{type(error).__name__} {error}".lower()
    return any(sign in text for sign in ("gloo", "nccl", "distbackenderror", "distnetworkerror", "connection"))


def broadcast(value: T) -> T:
    """Rank 0's value, on every rank."""
    if _joined is None:
        return value
    import torch
    import torch.distributed as dist

    packed = _packed(value) if is_main() else torch.empty(0, dtype=torch.uint8)
    length = torch.tensor([len(packed)])
    _finish(dist.broadcast(length, 0, group=_joined.control, async_op=True))
    if not is_main():
        packed = torch.empty(int(length), dtype=torch.uint8)
    _finish(dist.broadcast(packed, 0, group=_joined.control, async_op=True))
    return value if is_main() else _unpacked(packed)


def on_main(action: Callable[[], T]) -> T:
    """Do something on rank 0 alone; every rank gets the outcome, and waits for it."""
    return broadcast(action() if is_main() else None)  # type: ignore[return-value]


def gather(value: T) -> list[T]:
    """The values of all ranks, in order, on rank 0; an empty list elsewhere."""
    if _joined is None:
        return [value]
    import torch
    import torch.distributed as dist

    packed = _packed(value)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size())]
    _finish(dist.all_gather(lengths, torch.tensor([len(packed)]), group=_joined.control, async_op=True))
    longest = max(int(length) for length in lengths)
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(packed)] = packed
    received = [torch.empty(longest, dtype=torch.uint8) for _ in range(size())] if is_main() else None
    _finish(dist.gather(padded, received, 0, group=_joined.control, async_op=True))
    return [_unpacked(part[: int(length)]) for part, length in zip(received or (), lengths, strict=False)]


def agree(flag: bool) -> bool:
    """True on every rank if it is true on any; cheap enough for every batch."""
    if _joined is None:
        return flag
    import torch
    import torch.distributed as dist

    flags = torch.tensor([int(flag)])
    _finish(dist.all_reduce(flags, dist.ReduceOp.MAX, group=_joined.control, async_op=True), longest_pause_s=0.001)
    return bool(flags)


def wait() -> None:
    """Until every rank is here."""
    agree(False)


def _meet(own: World, address: str, port: int, hosted: bool, timeout_s: float, attempt: str) -> Any:
    """The store, once all processes have come to it."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    host = own.rank == 0 and not hosted
    place = f"rendezvous {address}:{port}"
    deadline = time.monotonic() + timeout_s
    try:
        store = TCPStore(address, port, is_master=host, wait_for_workers=False, timeout=timedelta(seconds=timeout_s))
        key = f"edgekd/{attempt}/joined"
        store.add(key, 1)
        while (came := store.add(key, 0)) < own.size:
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    f"{place}: {came} of {own.size} processes came within {timeout_s:.0f} s; "
                    f"start the same command on every node"
                )
            time.sleep(0.05)
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:160]
        raise EnvironmentFault(
            f"{place}: process {own.rank} of {own.size} cannot {'serve' if host else 'reach'} it ({reason}); "
            f"give a host:port of rank 0 that every node can reach"
        ) from error
    return store


def _finish(work: Any, longest_pause_s: float = 0.05) -> None:
    """Wait for a collective in Python: torch's own wait would hold back signals until the others have come."""
    pause_s = 0.0
    while not work.is_completed():
        time.sleep(pause_s)
        pause_s = min(2 * pause_s + 0.0001, longest_pause_s)
    work.wait()


def _packed(value: Any) -> Any:
    import torch

    return torch.frombuffer(bytearray(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)), dtype=torch.uint8)


def _unpacked(packed: Any) -> Any:
    return pickle.loads(packed.numpy().tobytes())  # what another process of this very run has packed
