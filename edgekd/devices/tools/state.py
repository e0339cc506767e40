"""The state of a device without Python, in the form in which the agent tells it; what it does not tell is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.agent.tegra import release_in
from edgekd.agent.telemetry import android, jetson
from edgekd.agent.telemetry.sources import SENSOR_OFF_C
from edgekd.devices.contract import Device
from edgekd.devices.faults import DeviceFault
from edgekd.devices.numbers import whole

ROOT = ""  # of the device's files
_TIMEOUT_S = 20.0
_NOT_TOLD = ("nvpmodel", "thermalservice")

# $1 root. A fact a line: `name value`, or `name item value`; then, after a line of their own, what programs say.
_SCRIPT = """
exec 2>/dev/null
for zone in "$1"/sys/class/thermal/thermal_zone*; do
  [ -r "$zone/temp" ] && echo "zone ${zone##*/}_$(cat "$zone/type") $(cat "$zone/temp")"
done
for policy in "$1"/sys/devices/system/cpu/cpufreq/policy*; do
  for item in related_cpus cpuinfo_max_freq scaling_governor scaling_min_freq scaling_max_freq scaling_cur_freq; do
    [ -r "$policy/$item" ] && echo "$item ${policy##*/} $(cat "$policy/$item")"
  done
done
[ -r "$1/etc/nv_tegra_release" ] && echo "release - $(head -n 1 "$1/etc/nv_tegra_release")"
for item in model compatible; do
  [ -r "$1/proc/device-tree/$item" ] && echo "$item - $(tr '\\0' ' ' <"$1/proc/device-tree/$item")"
done
command -v getprop >/dev/null && echo "build - $(getprop ro.build.fingerprint)"
if command -v nvidia-smi >/dev/null; then
  echo "gpu - $(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader | head -n 1)"
fi
echo "= nvpmodel"; command -v nvpmodel >/dev/null && nvpmodel -q
echo "= thermalservice"; command -v dumpsys >/dev/null && dumpsys thermalservice
exit 0
"""


def state(device: Device) -> dict[str, Any]:
    """A snapshot: temperatures, governors and clocks, power mode, Android's thermal status, and what it is.

    Raises:
        DeviceFault: the device does not answer, or with what is no state.
    """
    said = device.shell(["sh", "-c", _SCRIPT, "edgekd", ROOT], timeout_s=_TIMEOUT_S)
    try:
        return understood(said.out.decode("utf-8", errors="replace"))
    except ValueError as error:  # what looks like a number, and is none
        where = f"device {device.spec.name}"
        raise DeviceFault("crashed", f"{where}: does not tell its state in numbers ({error}); see there") from error


def understood(said: str) -> dict[str, Any]:
    """What the device said."""
    facts, told = _parted(said)
    thermal, mode = android.thermal(told["thermalservice"]), jetson.power_mode(told["nvpmodel"])
    zones = {name: value / 1000 for name, value in (_whole(facts.get("zone")) or {}).items()}
    temperatures = thermal.temperatures_c if thermal else {}  # the zones of a phone are many, and of all kinds
    temperatures = temperatures or {name: value for name, value in zones.items() if value > SENSOR_OFF_C}
    found = {
        "temperatures_c": temperatures or None,
        "governors": facts.get("scaling_governor"),
        "frequencies_khz": _whole(facts.get("scaling_cur_freq")),
        "min_frequencies_khz": _whole(facts.get("scaling_min_freq")),
        "max_frequencies_khz": _whole(facts.get("scaling_max_freq")),
        "android_thermal": thermal._asdict() if thermal else None,
        "power_mode": mode._asdict() if mode else None,
        "policies": {
            name: [cores, khz]
            for name, cores in facts.get("related_cpus", {}).items()
            if (khz := whole(facts.get("cpuinfo_max_freq", {}).get(name, ""))) is not None
        } or None,
        "l4t": release_in(facts.get("release", {}).get("-", "")),
        **{name: facts.get(name, {}).get("-", "").strip() or None for name in ("model", "compatible", "build", "gpu")},
    }  # fmt: skip
    return {**found, "absent": {name: "the device does not tell" for name, value in found.items() if value is None}}


def _parted(said: str) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """(fact -> item -> value, program -> what it said)."""
    head, *rest = f"\n{said}".split("\n= ")
    facts: dict[str, dict[str, str]] = {}
    for line in head.splitlines():
        name, item, value = [*line.split(" ", 2), "", ""][:3]
        if name and value:
            facts.setdefault(name, {})[item] = value
    told = dict.fromkeys(_NOT_TOLD, "")
    for part in rest:
        name, _, text = part.partition("\n")
        told[name.strip()] = text
    return facts, told


def _whole(values: Mapping[str, str] | None) -> dict[str, int] | None:
    known = {name: whole(value) for name, value in (values or {}).items()}
    return {name: value for name, value in known.items() if value is not None} or None
