# SPDX-License-Identifier: Apache-2.0
"""What `vcgencmd` of a Raspberry Pi says: throttling, temperature, clocks."""

from __future__ import annotations

import re
from typing import List, Optional

# Bits 0 to 3 are the state now; the same, 16 higher, have occurred since the machine was started.
STATES = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
SINCE_START = 16

_THROTTLED = re.compile(r"throttled=0x([0-9a-fA-F]+)")
_TEMPERATURE = re.compile(r"temp=(-?\d+(?:\.\d+)?)'C")
_CLOCK = re.compile(r"frequency\(\d+\)=(\d+)")


def throttled(said: str) -> Optional[int]:
    """Bits of `get_throttled`; None if that is not what was said."""
    found = _THROTTLED.search(said)
    return int(found.group(1), 16) if found else None


def temperature_c(said: str) -> Optional[float]:
    """Of `measure_temp`."""
    found = _TEMPERATURE.search(said)
    return float(found.group(1)) if found else None


def clock_hz(said: str) -> Optional[int]:
    """Of `measure_clock arm`; a clock of zero is one that is off, and is None."""
    found = _CLOCK.search(said)
    return (int(found.group(1)) or None) if found else None


def describe(bits: int) -> List[str]:
    """Bits in words: `throttled`, `under-voltage has occurred`."""
    now = [state for bit, state in STATES.items() if bits >> bit & 1]
    return now + [f"{state} has occurred" for bit, state in STATES.items() if bits >> (bit + SINCE_START) & 1]
