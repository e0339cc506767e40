"""Power, heat and clocks of NVIDIA cards, as their driver's program tells; boards tell theirs to the agent."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

_PROGRAM = "nvidia-smi"
_FIELDS = {
    "power_w": "power.draw", "temperature_c": "temperature.gpu", "sm_mhz": "clocks.sm", "memory_mhz": "clocks.mem",
    "utilisation_percent": "utilization.gpu",
}  # fmt: skip
# Bits of the driver's mask that mean that the card is slower than it could be, under load.
_SLOWED = {0x04: "power cap", 0x08: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal",
           0x80: "hardware power brake"}  # fmt: skip
_MASKS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # newer and older drivers
_TIMEOUT_S = 10.0


def present() -> bool:
    """Whether there is anything to ask."""
    return shutil.which(_PROGRAM) is not None


def driver() -> str | None:
    """Version of the driver."""
    said = _ask("driver_version")
    return said[0] if said else None


def reading() -> dict[str, float | None] | None:
    """One reading of the first card; None where it cannot be had. What the card does not tell is None."""
    fields = _fields()
    said = _ask(",".join(fields.values())) if fields else []
    return {name: _number(text) for name, text in zip(fields, said[0].split(","), strict=False)} if said else None


@cache
def _fields() -> dict[str, str]:
    """Names of what this driver can be asked for."""
    for more in (*({"throttle_bits": mask} for mask in _MASKS), {}):
        if _ask(",".join((fields := {**_FIELDS, **more}).values())):
            return fields
    return {}


@contextmanager
def watched(every_s: float) -> Iterator[list[dict[str, float | None]]]:
    """Readings while the block runs, with the seconds since its beginning."""
    found: list[dict[str, float | None]] = []
    done = threading.Event()
    began = time.monotonic()

    def look() -> None:
        while not done.is_set():
            one = reading()
            if one is not None:
                found.append({"seconds": round(time.monotonic() - began, 2), **one})
            done.wait(every_s)

    thread = threading.Thread(target=look, daemon=True)
    if present():
        thread.start()
    try:
        yield found
    finally:
        done.set()
        if thread.is_alive():
            thread.join(_TIMEOUT_S)


def summary(readings: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    """Mean power, highest temperature, clocks at their lowest and highest, and what slowed the card down."""

    def values(name: str) -> list[float]:
        return [value for one in readings if (value := one.get(name)) is not None]

    power, clocks = values("power_w"), values("sm_mhz")
    bits = [int(value) for value in values("throttle_bits")]
    return {
        "readings": len(readings),
        "power_w": round(sum(power) / len(power), 1) if power else None,
        "highest_temperature_c": max(values("temperature_c"), default=None),
        "sm_mhz": [min(clocks), max(clocks)] if clocks else None,
        "slowed_by": sorted({name for mask in bits for bit, name in _SLOWED.items() if mask & bit}) if bits else None,
    }


def _ask(fields: str) -> list[str]:
    if not present():
        return []
    command = [_PROGRAM, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def _number(text: str) -> float | None:
    text = text.strip()
    try:
        return float(int(text, 16)) if text.lower().startswith("0x") else float(text)
    except ValueError:  # "[N/A]"
        return None
