"""Trials on a Ray cluster. Nodes may join and leave; the search itself runs on one of them, or beside the head.

Each trial is a task of its own, which Ray never runs again by itself: the search begins it anew, and knows what was
reported. Questions go through an actor beside the search, since a task cannot call whoever submitted it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Any

from edgekd.errors import EnvironmentFault, InputError
from edgekd.search.pools.contract import POLL_S, Asked, Done, Event, Job, Lost, Work

_KNOCK_S, _LOOK_S = 5.0, 2.0  # how long to wait for a head to answer, and how often nodes are counted
_MISSED = 3  # knocks in a row, after which the head counts as gone
_REMEDY = "start it ('ray start --head'; docs/clusters.md), or leave search.ray out"


def require_ray() -> Any:
    """The library.

    Raises:
        EnvironmentFault: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise EnvironmentFault("search.ray: needs Ray, which is not installed: pip install 'edgekd[cluster]'") from None
    return ray


class Cluster:
    """`Pool` of whatever CPUs and GPUs the cluster has."""

    def __init__(self, work: Work, address: str, cpus: int, gpus: int = 0) -> None:
        """Connect to nothing yet.

        Args:
            address: `auto`, the cluster that this machine is part of, or `host:port` of its head.
            cpus, gpus: of each trial.
        """
        self._ray = require_ray()
        self._work, self._address, self._each = work, address, {"CPU": cpus, "GPU": gpus}
        self._running: dict[Any, int] = {}
        self._asking: Any = None
        self._counted, self._room, self._knocked, self._missed = 0.0, 0, 0.0, 0

    def __enter__(self) -> Cluster:
        """Connect.

        Raises:
            EnvironmentFault: there is no such cluster.
            InputError: none of its nodes is large enough.
        """
        ray = self._ray
        if self._address != "auto" and not _answers(self._address):
            raise EnvironmentFault(f"search.ray: no Ray cluster answers at {self._address}; {_REMEDY}")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level="error", configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
            raise EnvironmentFault(f"search.ray: {self._address}: cannot be joined ({reason}); {_REMEDY}") from None
        self._head = str(ray.get_runtime_context().gcs_address)
        try:
            self._require_a_node()
        except InputError:
            ray.shutdown()
            raise
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._desk = ray.remote(_Desk).options(num_cpus=0, max_concurrency=10_000, scheduling_strategy=here).remote()
        task = ray.remote(_run).options(
            num_cpus=self._each["CPU"], num_gpus=self._each["GPU"], max_retries=0, scheduling_strategy="SPREAD"
        )
        self._submit = task.remote
        return self

    def __exit__(self, *_: object) -> None:
        if self._missed < _MISSED:  # else it would wait for a head that is gone
            self._ray.shutdown()

    def room(self) -> int:
        """See `Pool.room`."""
        if time.monotonic() - self._counted > _LOOK_S and _answers(self._head):  # else it would be waited for
            self._counted = time.monotonic()
            self._room = sum(self._fits(node) for node in self._nodes())
        return self._room

    def start(self, number: int, job: Job) -> None:
        """See `Pool.start`."""
        self._running[self._submit(self._work, number, job, self._desk)] = number

    def answer(self, number: int, lags: bool) -> None:
        """See `Pool.answer`."""
        self._desk.answer.remote(number, lags)

    def events(self, wait_s: float) -> list[Event]:
        """See `Pool.events`."""
        until = time.monotonic() + wait_s
        while True:
            self._require_a_head()
            ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=POLL_S) if self._running else ([], [])
            found: list[Event] = [*self._questions(), *(self._ended(reference) for reference in ended)]
            if found or time.monotonic() > until:
                return found

    def _questions(self) -> list[Event]:
        if self._asking is None:
            self._asking = self._desk.waiting.remote()
        try:
            waiting = self._ray.get(self._asking, timeout=_KNOCK_S)
        except self._ray.exceptions.GetTimeoutError:
            return []  # the head is looked at next; what comes late is fetched then, for nobody asks twice
        except self._ray.exceptions.RayError:
            self._asking = None
            return []
        self._asking = None
        return [Asked(*one) for one in waiting]

    def _ended(self, reference: Any) -> Event:
        number, exceptions = self._running.pop(reference), self._ray.exceptions
        try:
            return Done(number, self._ray.get(reference))
        except exceptions.RayTaskError as error:
            last = (str(error).strip().splitlines() or ["no reason given"])[-1][:200]
            raise EnvironmentFault(
                f"search.ray: a worker failed ({last}); what each node needs is in docs/clusters.md"
            ) from None
        except exceptions.RayError as error:
            return Lost(number, f"its worker is gone ({type(error).__name__})")

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _fits(self, resources: dict[str, float]) -> int:
        """Trials that a node has room for."""
        return int(min(resources.get(name, 0) // amount for name, amount in self._each.items() if amount))

    def _require_a_node(self) -> None:
        if not any(self._fits(node) for node in self._nodes()):
            wanted = ", ".join(f"{amount} {name}" for name, amount in self._each.items() if amount)
            raise InputError(
                f"search.ray: no node of {self._head} has the {wanted} of a trial; add a node ('ray start --address "
                f"{self._head}'), or lower threads"
            )

    def _require_a_head(self) -> None:
        """Ray itself would wait for a minute, and end this process without a word to the user."""
        if time.monotonic() - self._knocked < _LOOK_S:
            return
        self._knocked = time.monotonic()
        self._missed = 0 if _answers(self._head) else self._missed + 1
        if self._missed >= _MISSED:
            raise EnvironmentFault(
                f"search.ray: the head at {self._head} is gone; start the cluster again, and the same command goes on"
            )


def _answers(address: str) -> bool:
    """Whether something listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_KNOCK_S):
            return True
    except (OSError, ValueError, OverflowError):
        return False


class _Desk:
    """Where trials ask, and the search answers."""

    def __init__(self) -> None:
        self._open: dict[int, asyncio.Future[bool]] = {}
        self._new: list[tuple[int, int, float]] = []

    async def ask(self, number: int, done: int, value: float) -> bool:
        """Of a trial; returns when it is answered."""
        self._open[number] = asyncio.get_running_loop().create_future()
        self._new.append((number, done, value))
        return await self._open[number]

    async def waiting(self) -> list[tuple[int, int, float]]:
        """Of the search: what was asked since the last call."""
        new, self._new = self._new, []
        return new

    async def answer(self, number: int, lags: bool) -> None:
        """Of the search."""
        one = self._open.pop(number, None)
        if one is not None and not one.done():
            one.set_result(lags)


def _run(work: Work, number: int, job: Job, desk: Any) -> Job:
    """A trial, on whatever node Ray chose. A process that runs several keeps what they share."""
    import ray

    def lags(done: int, value: float) -> bool:
        answered: bool = ray.get(desk.ask.remote(number, done, value))
        return answered

    return work(job, lags)
