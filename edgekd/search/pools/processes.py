"""Trials in processes of this machine, which talk by lines of JSON over their standard streams.

    python -m edgekd.search.pools.processes

is one of them. It ends when the search does, whatever ended that.
"""

from __future__ import annotations

import json
import os
import queue
import selectors
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from edgekd.search.pools.contract import Asked, Done, Event, Job, Lost, Work


@dataclass
class _Process:
    """One of them, the trial that it runs, and the GPU that it sees."""

    process: subprocess.Popen[bytes]
    gpu: str | None = None
    number: int | None = None
    said: bytes = b""

    def send(self, message: Job) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is seen when it is listened to


class Processes:
    """`Pool` of a fixed number of processes; one that dies is followed by another."""

    def __init__(self, work: Work, workers: int, log: Path, gpus: Sequence[str] = ()) -> None:
        """Start none yet.

        Args:
            log: of what they say, appended.
            gpus: that they are spread over, as CUDA_VISIBLE_DEVICES names them; none: each sees what this one does.
        """
        self._work, self._workers, self._log_path, self._gpus = work, workers, log, gpus
        self._all: list[_Process] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Processes:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log: IO[bytes] = self._log_path.open("ab")
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._all:
            one.process.kill()
            one.process.wait()
        self._selector.close()
        self._log.close()

    def room(self) -> int:
        """See `Pool.room`."""
        return self._workers

    def start(self, number: int, job: Job) -> None:
        """See `Pool.start`."""
        idle = next((one for one in self._all if one.number is None), None) or self._started()
        idle.number = number
        idle.send({"job": job})

    def answer(self, number: int, lags: bool) -> None:
        """See `Pool.answer`."""
        for one in self._all:
            if one.number == number:
                one.send({"lags": lags})

    def events(self, wait_s: float) -> list[Event]:
        """See `Pool.events`."""
        found: list[Event] = []
        for key, _ in self._selector.select(wait_s):
            one: _Process = key.data
            chunk = os.read(key.fd, 1 << 16)
            found += self._heard(one, chunk) if chunk else self._gone(one)
        return found

    def _heard(self, one: _Process, chunk: bytes) -> list[Event]:
        *lines, one.said = (one.said + chunk).split(b"\n")
        found: list[Event] = []
        for line in lines:
            message, number = json.loads(line), one.number
            assert number is not None, "a process speaks of its trial"
            if "ended" in message:
                one.number = None
                found.append(Done(number, message["ended"]))
            else:
                found.append(Asked(number, int(message["done"]), float(message["value"])))
        return found

    def _gone(self, one: _Process) -> list[Event]:
        assert one.process.stdout is not None
        self._selector.unregister(one.process.stdout)
        self._all.remove(one)
        code = one.process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}; see {self._log_path}"
        return [] if one.number is None else [Lost(one.number, f"its process {how}")]

    def _started(self) -> _Process:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        gpu = min(self._gpus, key=lambda gpu: sum(one.gpu == gpu for one in self._all), default=None)
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        process = subprocess.Popen(
            [sys.executable, "-m", "edgekd.search.pools.processes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, env=environment, start_new_session=True,
        )  # fmt: skip
        one = _Process(process, gpu)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, one)
        self._all.append(one)
        one.send({"work": asdict(self._work)})
        return one


def _main() -> None:
    """Listen, run, speak; what trials print goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            heard.put(json.loads(line))
        os._exit(1)  # the search is gone

    def say(message: Job) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    def lags(done: int, value: float) -> bool:
        say({"done": done, "value": value})
        return bool(heard.get()["lags"])

    threading.Thread(target=listen, daemon=True).start()
    work = Work(**heard.get()["work"])
    while True:
        say({"ended": work(heard.get()["job"], lags)})


if __name__ == "__main__":
    _main()
