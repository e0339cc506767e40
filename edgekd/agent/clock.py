# SPDX-License-Identifier: Apache-2.0
"""One clock: warm-up until steady, then sampling for a minimum duration and a minimum count."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List

Clock = Callable[[], int]
Heartbeat = Callable[[], None]

STEADY_RATIO = 0.02
_WINDOWS_PER_WARMUP = 4
_SAMPLES_PER_WINDOW = 5
_CHUNK_NS = 1000000000

now_ns: Clock = time.perf_counter_ns


def warm_up(
    step: Callable[[], int],
    min_seconds: float,
    cap_seconds: float,
    heartbeat: Heartbeat,
    clock: Clock = now_ns,
) -> Dict[str, Any]:
    """Repeat `step` (returns its own duration in ns) until it is steady.

    Steady: at least `min_seconds` have passed and the medians of the last two windows differ by at most 2 % of the
    smaller. A window is a quarter of `min_seconds`, and at least five samples. After `cap_seconds` (and two windows)
    the warm-up ends anyway, and says that it was not steady.
    """
    window_ns = min_seconds * 1e9 / _WINDOWS_PER_WARMUP
    medians: List[int] = []
    count = 0
    started = last_beat = clock()
    while True:
        window: List[int] = []
        opened = clock()
        while len(window) < _SAMPLES_PER_WINDOW or clock() - opened < window_ns:
            window.append(step())
            if clock() - last_beat >= _CHUNK_NS:
                heartbeat()
                last_beat = clock()
        count += len(window)
        medians.append(sorted(window)[len(window) // 2])
        elapsed_s = (clock() - started) / 1e9
        steady = elapsed_s >= min_seconds and _agree(medians)
        if steady or (elapsed_s >= cap_seconds and len(medians) > 1):
            return {"seconds": elapsed_s, "count": count, "steady": steady, "window_medians_ns": medians}


def _agree(medians: List[int]) -> bool:
    if len(medians) < 2:
        return False
    low, high = sorted(medians[-2:])
    return high - low <= STEADY_RATIO * low


def sample(
    step: Callable[[], Dict[str, int]],
    min_seconds: float,
    min_count: int,
    on_chunk: Callable[[Dict[str, List[int]]], None],
    clock: Clock = now_ns,
) -> int:
    """Repeat `step` (returns named durations in ns) for at least `min_seconds` and at least `min_count` times.

    `on_chunk` gets the samples in order, about once a second, between two steps. Every sample is handed on.

    Returns:
        the number of samples.
    """
    count = 0
    chunk: Dict[str, List[int]] = {}
    started = last_chunk = clock()
    while True:
        for name, duration_ns in step().items():
            chunk.setdefault(name, []).append(duration_ns)
        count += 1
        now = clock()
        done = count >= min_count and now - started >= min_seconds * 1e9
        if done or now - last_chunk >= _CHUNK_NS:
            on_chunk(chunk)
            chunk = {}
            last_chunk = clock()
        if done:
            return count
