# SPDX-License-Identifier: Apache-2.0
"""What can be read many times a minute: frequencies, temperatures, signs of throttling, power. All of it is sysfs.

A reading is (group, name, value), e.g. ("temperatures_c", "thermal_zone0 cpu-thermal", 41.5); units are in the groups.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import ina3221
from .files import NumberFile, text

Reading = Tuple[str, str, Optional[float]]
Readings = Dict[str, Dict[str, Optional[float]]]

SENSOR_OFF_C = -200.0  # Jetsons show -256 degrees for a sensor whose part is switched off
_PI_FIRMWARE = "sys/devices/platform/*/*firmware*/get_throttled"
# Of the kernel's cooling devices, those that slow something down; a fan is none of them.
_SLOWING = ("cpufreq", "devfreq", "throttle", "processor", "powerclamp")

# Why a group can be missing.
GROUPS = {
    "frequencies_khz": "no cpufreq in sysfs",
    "max_frequencies_khz": "no cpufreq in sysfs",
    "device_frequencies_hz": "no devfreq in sysfs",
    "temperatures_c": "no thermal zone in sysfs",
    "cooling_states": "no cooling device in sysfs that slows anything down",
    "pi_throttled": "no Raspberry Pi firmware in sysfs",
    "power_mw": "no INA3221 in sysfs",
    "power_alarms": "no INA3221 in sysfs",
}


class _Channel(NamedTuple):
    group: str
    name: str
    file: NumberFile


class Sources:
    """All that this machine tells; found once, read often."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._channels = list(_channels(root))
        self._rails = ina3221.find(root)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to read."""
        return not self._channels and not self._rails

    @property
    def has_power(self) -> bool:
        """Whether there are power rails."""
        return bool(self._rails)

    def read(self) -> Iterator[Reading]:
        """Everything, now; what cannot be read at this moment is None."""
        for group, name, file in self._channels:
            value = file.read()
            switched_off = group == "temperatures_c" and value is not None and value <= SENSOR_OFF_C
            yield group, name, None if switched_off else value
        for rail in self._rails:
            yield "power_mw", rail.name, rail.power_mw()
            for kind, alarm in rail.alarms.items():
                yield "power_alarms", f"{rail.name} {kind}", alarm.read()

    def readings(self) -> Readings:
        """The same by group; a group of which nothing can be read is missing."""
        found: Readings = {}
        for group, name, value in self.read():
            found.setdefault(group, {})[name] = value
        return {group: values for group, values in found.items() if set(values.values()) != {None}}

    def close(self) -> None:
        """Close all files."""
        for channel in self._channels:
            channel.file.close()
        for rail in self._rails:
            rail.close()


def policies(root: Path) -> List[Path]:
    """Folders of cpufreq: one per group of cores that share a clock."""
    return sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))


def throttle_counts(root: Path) -> Optional[Dict[str, int]]:
    """How often x86 cores and packages slowed down for heat since the machine was started, summed over the cores."""
    found: Dict[str, int] = {}
    for folder in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle"):
        for kind in ("core", "package"):
            file = NumberFile(folder / f"{kind}_throttle_count")
            value = file.read()
            file.close()
            if value is not None:
                found[kind] = found.get(kind, 0) + int(value)
    return found or None


def _channels(root: Path) -> Iterator[_Channel]:
    for policy in policies(root):
        yield _Channel("frequencies_khz", policy.name, NumberFile(policy / "scaling_cur_freq"))
        yield _Channel("max_frequencies_khz", policy.name, NumberFile(policy / "scaling_max_freq"))
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        yield _Channel("device_frequencies_hz", device.name, NumberFile(device / "cur_freq"))
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name = f"{zone.name} {text(zone / 'type') or 'unknown'}"
        yield _Channel("temperatures_c", name, NumberFile(zone / "temp", scale=0.001))
    for cooling in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = text(cooling / "type") or ""
        if any(word in kind.lower() for word in _SLOWING):
            yield _Channel("cooling_states", f"{cooling.name} {kind}", NumberFile(cooling / "cur_state"))
    for firmware in sorted(root.glob(_PI_FIRMWARE))[:1]:
        yield _Channel("pi_throttled", "bits", NumberFile(firmware, base=16))
