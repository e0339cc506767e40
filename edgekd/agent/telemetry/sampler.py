# SPDX-License-Identifier: Apache-2.0
"""Reads the device's state while a model is timed: a thread that sleeps, reads small files, and sleeps again."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from .sources import Reading, Sources
from .tegrastats_stream import TegrastatsStream, find

EVERY_S = 0.5

Sample = Tuple[int, List[Reading]]


class Sampler:
    """A context manager; samples at its start, every `every_s` seconds, and at its end.

    Args:
        every_s: 0: do not sample.
        root: of sysfs.
        clock: of the timestamps; the one that times the model.
        tegrastats: command that streams power where sysfs has none; None: the program, if there is one.
    """

    def __init__(
        self,
        every_s: float = EVERY_S,
        root: Path = Path("/"),
        clock: Callable[[], int] = time.perf_counter_ns,
        tegrastats: Optional[List[str]] = None,
    ) -> None:
        self._every_s = every_s
        self._root = root
        self._clock = clock
        self._tegrastats = tegrastats
        self._sources: Optional[Sources] = None
        self._stream: Optional[TegrastatsStream] = None
        self._thread: Optional[threading.Thread] = None
        self._done = threading.Event()
        self._samples: List[Sample] = []

    def __enter__(self) -> Sampler:
        if self._every_s > 0:
            self._sources = Sources(self._root)
            if not self._sources.has_power:
                self._stream = self._start_stream()
            if self._stream or not self._sources.empty:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()
        if self._stream:
            self._stream.close()
        if self._sources:
            self._sources.close()

    def take(self) -> Optional[Dict[str, Any]]:
        """What was sampled since the last call, as columns; None if nothing was.

        `time_ns` and, per group and name, as many values; null where a value could not be read at that moment.
        """
        samples, self._samples = self._samples, []
        if not samples:
            return None
        columns: Dict[str, Any] = {"time_ns": [moment for moment, _ in samples]}
        for place, (_, readings) in enumerate(samples):
            for group, name, value in readings:
                column = columns.setdefault(group, {}).setdefault(name, [None] * len(samples))
                column[place] = value
        return columns

    def _run(self) -> None:
        while True:
            moment = self._clock()
            self._samples.append((moment, list(self._read())))
            if self._done.is_set():
                return
            self._done.wait(self._every_s)

    def _read(self) -> Iterator[Reading]:
        if self._sources:
            yield from self._sources.read()
        if self._stream:
            yield from self._stream.read()

    def _start_stream(self) -> Optional[TegrastatsStream]:
        program = find()
        command = self._tegrastats or ([program, "--interval", str(int(self._every_s * 1000))] if program else None)
        return TegrastatsStream(command) if command else None
