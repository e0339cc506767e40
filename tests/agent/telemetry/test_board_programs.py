import pytest

from edgekd.agent.telemetry import android, commands, jetson, raspberry_pi
from tests.agent.telemetry.golden import golden


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("nvpmodel-q.txt", ("MAXN_SUPER", 2)),
        ("nvpmodel-q-warnings.txt", ("MODE_15W_6CORE", 4)),
        ("nvpmodel-q-no-number.txt", ("15W", None)),
        ("jetson_clocks-show-locked.txt", ("5W", None)),
    ],
)
def test_power_mode(name, mode):
    assert jetson.power_mode(golden(name)) == mode


def test_no_power_mode():
    assert jetson.power_mode("NVPM ERROR: failed to read PARAM") is None


def test_floating_clocks():
    shown = jetson.clocks(golden("jetson_clocks-show-floating.txt"))
    assert shown["cpu0"] == (729600, 1510400, 1190400, True)
    assert shown["GPU"] == (306000000, 624750000, 306000000, True)
    assert shown["EMC"].max == 2133000000
    assert shown["DLA0_CORE"].online is False
    assert jetson.locked(shown) is False


def test_locked_clocks_are_those_of_cores_that_are_online_and_of_the_gpu():
    shown = jetson.clocks(golden("jetson_clocks-show-locked.txt"))
    assert shown["cpu2"].online is False
    assert jetson.locked(shown) is True
    assert jetson.locked({}) is None
    old = jetson.clocks("cpu0: Gonvernor=interactive MinFreq=102000 MaxFreq=1734000 CurrentFreq=510000\n")
    assert old == {"cpu0": (102000, 1734000, 510000, True)}


def test_phones():
    calm = android.thermal(golden("thermalservice-calm.txt"))
    assert calm == (0, False, {"AP": 25.6, "BAT": 24.9, "SKIN": 25.300001})
    hot = android.thermal(golden("thermalservice-throttled.txt"))
    assert hot is not None
    assert (hot.status, hot.temperatures_c["SKIN"], android.STATUSES[2]) == (2, 44.2, "moderate")
    assert android.thermal("Can't find service: thermalservice") is None
    without = android.thermal("IsStatusOverride: true\nThermal Status: 3\nHAL Ready: false\n")
    assert without == (3, True, {})


def test_raspberry_pi():
    calm, hot = golden("vcgencmd-calm.txt"), golden("vcgencmd-throttled.txt")
    assert (raspberry_pi.throttled(calm), raspberry_pi.temperature_c(calm)) == (0, 48.3)
    assert raspberry_pi.clock_hz(calm) == 2400033792
    assert (raspberry_pi.throttled(hot), raspberry_pi.temperature_c(hot)) == (0xE0006, 85.6)
    assert raspberry_pi.clock_hz(hot) == 1500345728
    assert raspberry_pi.describe(0xE0006) == [
        "frequency capped", "throttled", "frequency capped has occurred", "throttled has occurred",
        "soft temperature limit has occurred",
    ]  # fmt: skip
    for nothing in ("", "VCHI initialization failed", "error=1"):
        assert raspberry_pi.throttled(nothing) is None
        assert raspberry_pi.temperature_c(nothing) is None
    assert raspberry_pi.clock_hz("frequency(0)=0") is None


def test_what_a_board_says_goes_into_the_snapshot_and_the_rest_has_a_reason():
    said = {
        ("nvpmodel", "-q"): golden("nvpmodel-q.txt"),
        ("jetson_clocks", "--show"): "jetson_clocks: must be run as root\n",
    }

    def ask(arguments):
        return said.get(tuple(arguments)), f"{arguments[0]} is silent"

    found, absent = commands.told(ask)
    assert found["power_mode"] == {"name": "MAXN_SUPER", "number": 2}
    assert found["clocks"] is None
    assert absent["clocks"] == "jetson_clocks is silent"
    assert set(absent) == {key for key, value in found.items() if value is None}
    assert len(absent) == 5


def test_running_a_program_of_the_board(tmp_path, monkeypatch):
    for name, body in (("nvpmodel", "echo 'NV Power Mode: 15W'; exit 3"), ("dumpsys", "exec sleep 30")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert commands.say(["nvpmodel", "-q"])[0] == "NV Power Mode: 15W\n"
    monkeypatch.setattr(commands, "_TIMEOUT_S", 0.2)
    assert commands.say(["dumpsys", "thermalservice"]) == (None, "dumpsys: no answer in 0.2 s")
    assert commands.say(["vcgencmd-not-here"]) == (None, "no vcgencmd-not-here here")
