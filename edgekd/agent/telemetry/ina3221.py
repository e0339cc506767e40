# SPDX-License-Identifier: Apache-2.0
"""Power rails of a Jetson from its INA3221 monitors in sysfs: millivolts times milliamperes, per labelled channel.

JetPack 5 and later have `hwmon/hwmon*/{in,curr}N_input` with `inN_label`; JetPack 4 has `iio:device*/in_powerN_input`
with `rail_name_N`. Channels without a label or current (sums of shunt voltages) and those that are not connected
(`NC`) are no rails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from .files import NumberFile, text

NOT_CONNECTED = "NC"
_ALARMS = ("max", "crit")
_DRIVERS = "sys/bus/i2c/drivers"


class Rail(NamedTuple):
    """One rail.

    Attributes:
        name: its label, e.g. `VDD_IN`.
        factors: files whose product is the power: mV and A, or mW alone.
        alarms: kind -> file that reads 1 while the current is above that limit.
    """

    name: str
    factors: Tuple[NumberFile, ...]
    alarms: Dict[str, NumberFile]

    def power_mw(self) -> Optional[float]:
        """Power now, in mW."""
        power = 1.0
        for factor in self.factors:
            value = factor.read()
            if value is None:
                return None
            power *= value
        return round(power, 3)

    def close(self) -> None:
        """Close the files."""
        for file in (*self.factors, *self.alarms.values()):
            file.close()


def find(root: Path = Path("/")) -> List[Rail]:
    """All rails, in the order of monitors and channels."""
    drivers = root / _DRIVERS
    found = [rail for folder in sorted(drivers.glob("ina3221/*/hwmon/hwmon*")) for rail in _hwmon(folder)]
    return found or [rail for folder in sorted(drivers.glob("ina3221x/*/iio:device*")) for rail in _iio(folder)]


def _hwmon(folder: Path) -> List[Rail]:
    rails = []
    for label in sorted(folder.glob("in*_label")):
        number, name = label.name[len("in") : -len("_label")], text(label)
        current = folder / f"curr{number}_input"
        if name in (None, NOT_CONNECTED) or not current.exists():
            continue
        alarms = {kind: folder / f"curr{number}_{kind}_alarm" for kind in _ALARMS}
        rails.append(
            Rail(
                str(name),
                (NumberFile(folder / f"in{number}_input"), NumberFile(current, scale=0.001)),
                {kind: NumberFile(path) for kind, path in alarms.items() if path.exists()},
            )
        )
    return rails


def _iio(folder: Path) -> List[Rail]:
    rails = []
    for label in sorted(folder.glob("rail_name_*")):
        name = text(label)
        if name not in (None, NOT_CONNECTED):
            number = label.name[len("rail_name_") :]
            rails.append(Rail(str(name), (NumberFile(folder / f"in_power{number}_input"),), {}))
    return rails
