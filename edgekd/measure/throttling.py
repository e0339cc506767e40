"""Whether a device was slowed down while it was measured. A pure reading of its telemetry.

Each check looks at one kind of evidence; a check whose evidence this device does not give says nothing, and the verdict
lists those that could speak. A device that was slowed down makes the measurement invalid: the figures would be true of
a device in trouble, and of no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgekd.agent.telemetry import android, raspberry_pi
from edgekd.measure.telemetry import Snapshot, Telemetry, is_thermometer

LOCKED_TOLERANCE = 0.02  # a clock that is locked may be read this much lower
_STATE_NOW = (1 << raspberry_pi.SINCE_START) - 1
_IDLE_CORES_READ_LOW = ("x86_64", "AMD64", "i686")


@dataclass(frozen=True)
class Conditions:
    """What the device's file demands.

    Attributes:
        stay_below_c: of the hottest sensor, at all times.
        power_mode: that has to be in force.
        emulated: why its latency means nothing, in words, if the device's file says so.
        machine: as the platform names itself, e.g. `aarch64`; where idle cores read low, locked clocks prove nothing.
    """

    stay_below_c: float | None = None
    power_mode: str | None = None
    emulated: str | None = None
    machine: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What the telemetry of a process says.

    Attributes:
        invalid_reasons: why the process must not be used; empty if nothing speaks against it.
        notes: what a reader should know.
        evidence: the kinds of evidence that were there; empty: throttling cannot be seen on this device.
    """

    invalid_reasons: tuple[str, ...]
    notes: tuple[str, ...]
    evidence: tuple[str, ...]


def judge(telemetry: Telemetry, conditions: Conditions | None = None) -> Verdict:
    """Judge one process."""
    conditions = conditions or Conditions()
    found = {name: check(telemetry, conditions) for name, check in _CHECKS.items()}
    return Verdict(
        tuple(reason for reasons in found.values() for reason in reasons or ()),
        tuple(_floating(telemetry.before)),
        tuple(name for name, reasons in found.items() if reasons is not None),
    )


def _raspberry_pi(telemetry: Telemetry, _: Conditions) -> list[str] | None:
    before, during = _pi_bits(telemetry.before), [int(bits) for _, bits in telemetry.values("pi_throttled")]
    after = _pi_bits(telemetry.after)
    during += [] if after is None else [after]
    if not during:
        return None
    seen = 0
    for bits in during:
        seen |= bits
    # Bits of what has occurred count if they are new; those of the present always do.
    wrong = seen & _STATE_NOW | (seen & ~before if before is not None else 0)
    return [f"Raspberry Pi: {', '.join(raspberry_pi.describe(wrong))} (bits {wrong:#x})"] if wrong else []


def _pi_bits(snapshot: Snapshot) -> int | None:
    bits = (snapshot.get("pi_throttled") or {}).get("bits")
    bits = snapshot.get("pi_throttled_bits") if bits is None else bits
    return None if bits is None else int(bits)


def _android(telemetry: Telemetry, _: Conditions) -> list[str] | None:
    told = [
        snapshot["android_thermal"]
        for snapshot in (telemetry.before, telemetry.after)
        if snapshot.get("android_thermal")
    ]
    statuses = [
        int(state["status"]) for state in told if state.get("status") is not None and not state.get("overridden")
    ]
    if not statuses:
        return None
    worst = max(statuses)
    name = android.STATUSES[worst] if worst < len(android.STATUSES) else "unknown"
    return [f"Android thermal status {worst} ({name})"] if worst else []


def _counters(telemetry: Telemetry, _: Conditions) -> list[str] | None:
    before, after = telemetry.before.get("throttle_counts"), telemetry.after.get("throttle_counts")
    if not before or not after:
        return None
    rises = {name: count - before[name] for name, count in after.items() if count > before.get(name, count)}
    return [f"the processor throttled: {name} counter +{rise}" for name, rise in rises.items()]


def _cooling(telemetry: Telemetry, _: Conditions) -> list[str] | None:
    highest = _extremes(telemetry.values("cooling_states"), max)
    if not highest:
        return None
    return [
        f"{name}: the kernel slowed the device down (state {state:g})" for name, state in highest.items() if state > 0
    ]


def _caps(telemetry: Telemetry, _: Conditions) -> list[str] | None:
    before = telemetry.before.get("max_frequencies_khz")
    lowest = _extremes(telemetry.values("max_frequencies_khz"), min)
    if not before or not lowest:
        return None
    return [
        f"{name}: the limit of its clock fell from {before[name] / 1e3:.0f} to {limit / 1e3:.0f} MHz"
        for name, limit in lowest.items()
        if before.get(name) and limit < before[name]
    ]


def _locked(telemetry: Telemetry, conditions: Conditions) -> list[str] | None:
    if conditions.machine in _IDLE_CORES_READ_LOW:
        return None
    limits_mhz = _locked_mhz(telemetry.before)
    if not limits_mhz:
        return None
    lowest = {name: khz / 1e3 for name, khz in _extremes(telemetry.values("frequencies_khz"), min).items()}
    lowest |= {name: hz / 1e6 for name, hz in _extremes(telemetry.values("device_frequencies_hz"), min).items()}
    return [
        f"{name}: ran at {lowest[name]:.0f} MHz, though its clock is locked at {limit:.0f} MHz"
        for name, limit in limits_mhz.items()
        if 0 < lowest.get(name, limit) < (1 - LOCKED_TOLERANCE) * limit
    ]


def _locked_mhz(before: Snapshot) -> dict[str, float]:
    """Clocks whose lower limit is their upper one."""
    lower, upper = before.get("min_frequencies_khz") or {}, before.get("max_frequencies_khz") or {}
    locked = {name: most / 1e3 for name, most in upper.items() if most and lower.get(name) == most}
    for name, limit in (before.get("device_limits_hz") or {}).items():
        if limit["max"] and limit["min"] == limit["max"]:
            locked[name] = limit["max"] / 1e6
    return locked


def _alarms(telemetry: Telemetry, _: Conditions) -> list[str] | None:
    highest = _extremes(telemetry.values("power_alarms"), max)
    return [f"{name}: alarm of the power monitor" for name, on in highest.items() if on] if highest else None


def _heat(telemetry: Telemetry, conditions: Conditions) -> list[str] | None:
    degrees = dict(_extremes(telemetry.values("temperatures_c", before=True), max))
    hottest = max(((value, name) for name, value in degrees.items() if is_thermometer(name)), default=None)
    if hottest is None or conditions.stay_below_c is None:
        return None
    value, name = hottest
    return (
        [f"{name}: {value:.1f} C, above the limit of {conditions.stay_below_c:g} C"]
        if value > conditions.stay_below_c
        else []
    )


def _power_mode(telemetry: Telemetry, conditions: Conditions) -> list[str] | None:
    if conditions.power_mode is None:
        return None
    told = telemetry.before.get("power_mode") or {}
    if told.get("name") == conditions.power_mode:
        return []
    shown = told.get("name") or "unknown"
    return [f"power mode {shown}, not {conditions.power_mode}; set it with: sudo nvpmodel -m NUMBER"]


def _floating(before: Snapshot) -> Iterator[str]:
    """One note on clocks that the device sets as it likes."""
    lower, upper = before.get("min_frequencies_khz") or {}, before.get("max_frequencies_khz") or {}
    ranges = {(lower[name], most) for name, most in upper.items() if most and lower.get(name) and lower[name] < most}
    if ranges or (before.get("clocks") or {}).get("locked") is False:
        shown = ", ".join(f"{low / 1e3:.0f} to {high / 1e3:.0f} MHz" for low, high in sorted(ranges))
        yield "floating clocks" + (f" ({shown})" if shown else "")


def _extremes(values: Iterator[tuple[str, float]], choose: Callable[[float, float], float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values:
        found[name] = choose(found[name], value) if name in found else value
    return found


_CHECKS: dict[str, Callable[[Telemetry, Conditions], list[str] | None]] = {
    "raspberry_pi": _raspberry_pi,
    "android": _android,
    "throttle_counters": _counters,
    "cooling_devices": _cooling,
    "frequency_limits": _caps,
    "locked_clocks": _locked,
    "power_alarms": _alarms,
    "temperature": _heat,
    "power_mode": _power_mode,
}
