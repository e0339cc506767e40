# SPDX-License-Identifier: Apache-2.0
"""What `dumpsys thermalservice` of Android 10 and later says."""

from __future__ import annotations

import re
from typing import Dict, NamedTuple, Optional

STATUSES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")

_STATUS = re.compile(r"^\s*Thermal Status:\s*(\d+)", re.MULTILINE)
_OVERRIDE = re.compile(r"^\s*IsStatusOverride:\s*true", re.MULTILINE)
_NOW = "Current temperatures from HAL"
_SECTION = re.compile(r"^\S[^\n{]*:\s*$", re.MULTILINE)
_SENSOR = re.compile(r"Temperature\{mValue=(-?[\d.]+), mType=(-?\d+), mName=([^,}]*), mStatus=(\d+)\}")


class Thermal(NamedTuple):
    """State of a phone.

    Attributes:
        status: 0 (none) to 6 (shutdown); anything above 0 slows something down.
        overridden: somebody set the status by hand, so it says nothing.
        temperatures_c: sensor -> temperature now; empty where the vendor's layer gives none. Values of exactly zero
            are sensors that do not exist, and are left out.
    """

    status: Optional[int]
    overridden: bool
    temperatures_c: Dict[str, float]


def thermal(said: str) -> Optional[Thermal]:
    """What was said; None if it is not from this service (no permission, no such service)."""
    status = _STATUS.search(said)
    if status is None:
        return None
    start = said.find(_NOW)
    temperatures: Dict[str, float] = {}
    if start >= 0:
        rest = said[start:].partition("\n")[2]
        end = _SECTION.search(rest)
        for value, _, name, _ in _SENSOR.findall(rest[: end.start()] if end else rest):
            if float(value) != 0:
                temperatures[name] = float(value)
    return Thermal(int(status.group(1)), _OVERRIDE.search(said) is not None, temperatures)
