import pytest

from edgekd.devices import cool_down
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.cool_down import CoolDown


class Oven:
    """A device of which each question finds the next temperature."""

    def __init__(self, *temperatures_c, **spec):
        self.spec = DeviceSpec(name="oven", runtimes=("onnxruntime",), **spec)
        self.temperatures_c = list(temperatures_c)

    def run(self, arguments, on_event):
        assert list(arguments) == ["state"]
        told = {"thermal_zone0 tj": self.temperatures_c.pop(0), "thermal_zone1 PMIC-Die": 100.0}
        on_event({"event": "telemetry", "telemetry": {"temperatures_c": told}})


@pytest.fixture
def slept(monkeypatch):
    seconds = []
    monkeypatch.setattr(cool_down.time, "sleep", seconds.append)
    return seconds


def test_without_a_limit_there_is_the_pause_alone(slept):
    notes = []
    gate = CoolDown(Oven(), 60, notes.append)
    assert [gate.wait(), gate.wait(), gate.wait()] == [[], [], []]
    assert (slept, notes) == ([60, 60], ["cooling down for 60 s"] * 2)


def test_the_pause_of_the_device_comes_before_that_of_the_protocol(slept):
    gate = CoolDown(Oven(cool_down_seconds=5), 60, print)
    gate.wait()
    gate.wait()
    assert slept == [5]


def test_waits_until_it_is_cool(slept):
    oven, notes = Oven(52.0, 49.0, 60.0, 53.0, 50.0, start_below_c=50), []
    gate = CoolDown(oven, 0, notes.append)
    assert gate.wait() == [
        {
            "event": "thermal_gate", "passed": True, "reason": "49.0 C, at most 50.0 C", "hottest_c": 49.0,
            "first_c": None, "waited_s": 10.0,
        }
    ]  # fmt: skip
    (second,) = gate.wait()
    assert (second["passed"], second["hottest_c"], second["first_c"], second["waited_s"]) == (True, 50.0, 49.0, 20.0)
    assert (slept, oven.temperatures_c) == ([10.0] * 3, [])
    assert notes[0] == "cooling down: 52.0 C, waiting for 50.0 C"


def test_gives_up_at_the_cap(slept):
    (event,) = CoolDown(Oven(*[80.0] * 61, start_below_c=50), 0, print).wait()
    assert (event["passed"], event["reason"]) == (False, "80.0 C after 600 s, above 50 C")
    assert sum(slept) == 600
