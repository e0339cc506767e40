"""Holds a process back until the device is as cool as its file demands."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from edgekd.devices.contract import Device
from edgekd.measure.latency import Protocol
from edgekd.measure.telemetry import hottest_c
from edgekd.measure.thermal_gate import Gate, decide

Event = dict[str, Any]

_LOOK_EVERY_SECONDS = 10.0
_PAUSE_SECONDS = {"full": 60.0}  # between two processes; not part of what makes a run valid


def pause_of(protocol: Protocol) -> float:
    """Seconds between two processes, unless the device's file says otherwise."""
    return _PAUSE_SECONDS.get(protocol.name, 0.0)


class CoolDown:
    """Before each process of one measurement.

    Args:
        device: to ask for its temperature; it is asked only if it has a limit.
        pause_s: between two processes, unless the device's file says otherwise.
        say: gets a note for the progress line.
        look: tells the hottest sensor; default: the agent is asked.
    """

    def __init__(
        self,
        device: Device,
        pause_s: float,
        say: Callable[[str], None],
        look: Callable[[], float | None] | None = None,
    ) -> None:
        spec = device.spec
        self._device = device
        self._say = say
        self._look = look or self._temperature_c
        self._gate = Gate(spec.start_below_c, pause_s if spec.cool_down_seconds is None else spec.cool_down_seconds)
        self._processes = 0
        self._first_c: float | None = None

    def wait(self) -> list[Event]:
        """Wait as long as it takes, at most the gate's cap.

        Returns:
            a `thermal_gate` event for the record, `passed` or not; none where there is no limit.

        Raises:
            EnvironmentFault: the device does not answer.
        """
        waited_s = self._pause()
        self._processes += 1
        if self._gate.start_below_c is None:
            return []
        while True:
            now_c = self._look()
            decision = decide(self._gate, waited_s=waited_s, hottest_c=now_c, first_c=self._first_c)
            if decision.action != "wait":
                break
            self._say(f"cooling down: {decision.reason}")
            time.sleep(_LOOK_EVERY_SECONDS)
            waited_s += _LOOK_EVERY_SECONDS
        event = {
            "event": "thermal_gate", "passed": decision.action == "start", "reason": decision.reason,
            "hottest_c": now_c, "first_c": self._first_c, "waited_s": waited_s,
        }  # fmt: skip
        self._first_c = now_c if self._first_c is None else self._first_c
        return [event]

    def _pause(self) -> float:
        if not self._processes or not self._gate.pause_s:
            return 0.0
        self._say(f"cooling down for {self._gate.pause_s:.0f} s")
        time.sleep(self._gate.pause_s)
        return self._gate.pause_s

    def _temperature_c(self) -> float | None:
        events: list[Event] = []
        self._device.run(["state"], events.append)
        states = [event["telemetry"] for event in events if event.get("event") == "telemetry"]
        return hottest_c(states[-1].get("temperatures_c")) if states else None
