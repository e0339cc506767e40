"""Which cores of a phone to use: the fast ones, as its own cpufreq names them."""

from __future__ import annotations

from collections.abc import Mapping


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
        cores += range(int(first), int(last or first) + 1)
    return cores
