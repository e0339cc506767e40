# SPDX-License-Identifier: Apache-2.0
"""What `nvpmodel -q` and `jetson_clocks --show` say: the power mode, and whether clocks are locked."""

from __future__ import annotations

import re
from typing import Dict, NamedTuple, Optional

_MODE = re.compile(r"NV Power Mode:[ \t]*(\S.*?)[ \t]*$(?:\s+^(\d+)[ \t]*$)?", re.MULTILINE)
_CLOCK = re.compile(
    r"^(?P<name>\w+):?\s+(?P<more>.*?)MinFreq=(?P<min>\d+)\s+MaxFreq=(?P<max>\d+)\s+CurrentFreq=(?P<now>\d+)",
    re.MULTILINE,
)
_JUDGED = re.compile(r"cpu\d+|GPU", re.IGNORECASE)


class PowerMode(NamedTuple):
    """Name (`MAXN`, `15W`) and number of a power mode; the number is None where it is not told."""

    name: str
    number: Optional[int]


class Clock(NamedTuple):
    """Limits and present value, in kHz for cores and Hz for all else, as the tool prints them; `online` of a core."""

    min: int
    max: int
    now: int
    online: bool


def power_mode(said: str) -> Optional[PowerMode]:
    """The mode in what `nvpmodel -q` (also `--verbose`) or `jetson_clocks --show` printed; None if there is none."""
    found = _MODE.search(said)
    if found is None:
        return None
    return PowerMode(found.group(1), int(found.group(2)) if found.group(2) else None)


def clocks(said: str) -> Dict[str, Clock]:
    """Clocks in what `jetson_clocks --show` printed: `cpu0`, `GPU`, `EMC` and so on."""
    shown = {}
    for found in _CLOCK.finditer(said):
        least, most, now = (int(found.group(key)) for key in ("min", "max", "now"))
        shown[found.group("name")] = Clock(least, most, now, "Online=0" not in found.group("more"))
    return shown


def locked(shown: Dict[str, Clock]) -> Optional[bool]:
    """Whether all cores that are online and the GPU have one clock alone; None if nothing is known of them."""
    judged = [clock for name, clock in shown.items() if _JUDGED.fullmatch(name) and clock.online]
    return all(clock.min == clock.max for clock in judged) if judged else None
