"""Which cores of a phone to use: the fast ones, as its own cpufreq names them."""

from __future__ import annotations

from collections.abc import Mapping

from edgekd.devices.numbers import whole

_MOST_CORES = 4096


def fast_cores(policies: Mapping[str, tuple[str, int]], threads: int) -> list[int]:
    """The fastest cores, whole groups of one clock at a time until there are enough.

    Args:
        policies: per policy, `related_cpus` (e.g. `4 5 6` or `4-6`) and `cpuinfo_max_freq` in kHz.
        threads: at least so many cores, if there are.
    """
    chosen: list[int] = []
    for related, _ in sorted(policies.values(), key=lambda policy: -policy[1]):
        if len(chosen) >= threads:
            break
        chosen += _cores(related)
    return sorted(chosen)


def taskset(cores: list[int]) -> list[str]:
    """The words before a command that keep it on these cores; Android's `taskset` takes a mask in hexadecimal.

    Raises:
        ValueError: no cores.
    """
    if not cores:
        raise ValueError("no cores to run on")
    return ["taskset", f"{sum(1 << core for core in cores):x}"]


def _cores(related: str) -> list[int]:
    cores: list[int] = []
    for part in related.replace(",", " ").split():
        first, _, last = part.partition("-")
        ends = whole(first), whole(last or first)
        if ends[0] is None or ends[1] is None or not 0 <= ends[0] <= ends[1] < _MOST_CORES:
            return []  # no list of cores
        cores += range(ends[0], ends[1] + 1)
    return cores
