# SPDX-License-Identifier: Apache-2.0
"""`throughput`: streams that work at once on one model, each the whole way from a camera frame to detections.

A stream is a thread that takes its next frame as soon as it is done with the last one. The streams never stop between
warm-up and measurement, so the window opens and closes in the midst of the work.
"""

from __future__ import annotations

import threading
import time
from argparse import Namespace
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence

from .clock import now_ns, sample, warm_up
from .pipeline import Pipeline, announce_end
from .profile import Loop, emit_telemetry
from .protocol import Writer, heartbeats
from .quiet import wait_for_quiet
from .telemetry import Contention, Sampler

_POLL_S = 0.01  # how often completions are collected: rarely enough to leave the streams alone


def throughput(arguments: Namespace, writer: Writer) -> None:
    """Write warm-up, `completions` (times in ns from the opening of the window), `window`, memory and telemetry.

    Completions come in chunks and in order of their end but for a few microseconds; those after the window's end are
    of inferences that were under way when it closed.
    """
    wait_for_quiet(writer, arguments.quiet_seconds)
    with heartbeats(writer, "loading the model"):
        pipeline = Pipeline(arguments)
        first = Loop(pipeline, arguments)
        loops = [first] + [first.fork() for _ in range(arguments.streams - 1)]
    pipeline.announce(
        writer,
        images=len(first.frames),
        preprocess={"resize": first.resize_name, "frame_px": list(first.frame_px), "batch": pipeline.batch},
        streams=len(loops),
        telemetry_every_seconds=arguments.telemetry_seconds or None,
    )
    first.prepare()
    pipeline.announce_load(writer)
    with Streams([loop.step for loop in loops]) as streams:
        warmup = warm_up(
            lambda: streams.next().duration_ns,
            arguments.warmup_seconds,
            arguments.warmup_cap_seconds,
            lambda: writer.emit("heartbeat"),
        )
        writer.emit("warmup", **warmup)
        with Sampler(arguments.telemetry_seconds, clock=now_ns) as sampler:
            contention = Contention()

            def on_chunk(chunk: Dict[str, List[int]]) -> None:
                writer.emit("completions", **chunk)
                emit_telemetry(writer, sampler)
                writer.emit("contention", **contention.take())

            opened_ns = now_ns()
            sample(
                lambda: streams.next(opened_ns).since(opened_ns), arguments.min_seconds, arguments.min_count, on_chunk
            )
            closed_ns = now_ns()
    late = [completion.since(opened_ns) for completion in streams.rest()]
    writer.emit("completions", **{key: [one[key] for one in late] for key in Completion._fields})
    writer.emit("window", window_ns=closed_ns - opened_ns)
    emit_telemetry(writer, sampler)
    announce_end(writer)


class Completion(NamedTuple):
    """One inference of one batch: stream from 0 on, and when it started and ended."""

    stream: int
    started_ns: int
    ended_ns: int

    @property
    def duration_ns(self) -> int:
        """From frame to detections, while the other streams work."""
        return self.ended_ns - self.started_ns

    def since(self, opened_ns: int) -> Dict[str, int]:
        """As columns of an event."""
        return {
            "stream": self.stream,
            "started_ns": self.started_ns - opened_ns,
            "ended_ns": self.ended_ns - opened_ns,
        }


class Streams:
    """Steps that are repeated, each in a thread of its own, and what they have completed. A context manager.

    Args:
        steps: one per stream.
    """

    def __init__(self, steps: Sequence[Callable[[], Any]]) -> None:
        self._completed: Deque[Completion] = deque()
        self._failure: Optional[BaseException] = None
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number, step), daemon=True) for number, step in enumerate(steps)
        ]

    def __enter__(self) -> Streams:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let every stream end what it has begun."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def next(self, after_ns: int = 0) -> Completion:
        """The next completion that ended after a moment, once there is one; earlier ones are dropped.

        Raises:
            BaseException: whatever a stream failed with.
        """
        while True:
            self._raise_failure()
            if not self._completed:
                time.sleep(_POLL_S)
            elif (completion := self._completed.popleft()).ended_ns > after_ns:
                return completion

    def rest(self) -> List[Completion]:
        """After the end, what nobody has asked for."""
        self._raise_failure()
        return list(self._completed)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self, number: int, step: Callable[[], Any]) -> None:
        try:
            while not self._done.is_set():
                started = now_ns()
                step()
                self._completed.append(Completion(number, started, now_ns()))
        except BaseException as failure:
            self._failure = failure
