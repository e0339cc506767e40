import numpy as np
import pytest

from edgekd.measure.telemetry import Telemetry
from edgekd.measure.throttling import Conditions, judge


def course(**groups):
    """Columns from group -> name -> values."""
    columns = {
        group: {name: np.array(values, np.float64) for name, values in names.items()} for group, names in groups.items()
    }
    count = max((len(values) for names in columns.values() for values in names.values()), default=0)
    return {"time_ns": np.arange(count), "columns": columns}


def pi(bits):
    return {"pi_throttled": {"bits": bits}}


def limits(low, high, **more):
    return {"min_frequencies_khz": {"policy0": low}, "max_frequencies_khz": {"policy0": high}, **more}


def reasons(before, after, during=None, **conditions):
    return list(judge(Telemetry(before, after, **(during or {})), Conditions(**conditions)).invalid_reasons)


@pytest.mark.parametrize(
    ("before", "during", "after", "said"),
    [
        (0, [0, 0], 0, []),
        (0x50000, [0x50000], 0x50000, []),  # has occurred, but long ago
        (0, [0, 0], 0x40000, ["Raspberry Pi: throttled has occurred (bits 0x40000)"]),
        (0x40000, [0x40004], 0x40000, ["Raspberry Pi: throttled (bits 0x4)"]),
        (0x40004, [0x40004], 0x40004, ["Raspberry Pi: throttled (bits 0x4)"]),  # from start to end
        (0, [0x10001], 0x10000, ["Raspberry Pi: under-voltage, under-voltage has occurred (bits 0x10001)"]),
        (0, [8], 0, ["Raspberry Pi: soft temperature limit (bits 0x8)"]),
    ],
)
def test_a_raspberry_pi(before, during, after, said):
    assert reasons(pi(before), pi(after), course(pi_throttled={"bits": during})) == said


def test_a_raspberry_pi_asked_by_program():
    assert reasons({"pi_throttled_bits": 0}, {"pi_throttled_bits": 0x80000}) == [
        "Raspberry Pi: soft temperature limit has occurred (bits 0x80000)"
    ]
    assert reasons({}, {"pi_throttled_bits": 0x80000}) == []  # nobody knows since when


def test_a_phone():
    def phone(status, overridden=False):
        return {"android_thermal": {"status": status, "overridden": overridden, "temperatures_c": {}}}

    assert reasons(phone(0), phone(0)) == []
    assert reasons(phone(0), phone(2)) == ["Android thermal status 2 (moderate)"]
    assert reasons(phone(1), phone(0)) == ["Android thermal status 1 (light)"]
    assert judge(Telemetry(phone(0, True), phone(0, True))).evidence == ()


def test_counters_of_x86():
    before, after = {"throttle_counts": {"core": 7, "package": 30}}, {"throttle_counts": {"core": 7, "package": 34}}
    assert reasons(before, before) == []
    assert reasons(before, after) == ["the processor throttled: package counter +4"]


def test_cooling_devices():
    name = "cooling_device1 cpu-throttle-alert"
    assert reasons({}, {"cooling_states": {name: 0}}, course(cooling_states={name: [0, 0]})) == []
    assert reasons({}, {"cooling_states": {name: 0}}, course(cooling_states={name: [0, 1, 0]})) == [
        f"{name}: the kernel slowed the device down (state 1)"
    ]


def test_a_limit_of_the_clock_that_falls():
    during = course(max_frequencies_khz={"policy0": [1510400, 729600, 1510400]})
    assert reasons(limits(729600, 1510400), limits(729600, 1510400), during) == [
        "policy0: the limit of its clock fell from 1510 to 730 MHz"
    ]


@pytest.mark.parametrize(
    ("machine", "low", "ran", "said"),
    [
        ("aarch64", 1510400, [1510400, 1490000], []),
        ("aarch64", 1510400, [1510400, 729600], ["policy0: ran at 730 MHz, though its clock is locked at 1510 MHz"]),
        ("aarch64", 729600, [1510400, 729600], []),  # not locked
        ("x86_64", 1510400, [1510400, 729600], []),  # an idle core
    ],
)
def test_locked_clocks(machine, low, ran, said):
    state = limits(low, 1510400)
    assert reasons(state, state, course(frequencies_khz={"policy0": ran}), machine=machine) == said


def test_a_locked_gpu():
    before = {"device_limits_hz": {"17000000.gpu": {"min": 612000000, "max": 612000000}}}
    during = course(device_frequencies_hz={"17000000.gpu": [612000000, 306000000]})
    assert reasons(before, {}, during) == ["17000000.gpu: ran at 306 MHz, though its clock is locked at 612 MHz"]


def test_alarms_of_the_power_monitor():
    during = course(power_alarms={"VDD_IN max": [0, 1], "VDD_IN crit": [0, 0]})
    assert reasons({"power_alarms": {"VDD_IN max": 1}}, {}, during) == ["VDD_IN max: alarm of the power monitor"]
    assert reasons({"power_alarms": {"VDD_IN max": 1}}, {"power_alarms": {"VDD_IN max": 0}}) == []


def test_heat():
    during = course(
        temperatures_c={"thermal_zone8 tj-thermal": [80, 91.5, None], "thermal_zone1 PMIC-Die": [100, 100, 100]}
    )
    assert reasons({}, {}, during) == []
    assert reasons({}, {}, during, stay_below_c=92) == []
    assert reasons({}, {}, during, stay_below_c=90) == ["thermal_zone8 tj-thermal: 91.5 C, above the limit of 90 C"]


def test_power_mode():
    state = {"power_mode": {"name": "15W", "number": 1}}
    assert reasons(state, state, power_mode="15W") == []
    assert reasons(state, state, power_mode="MAXN")[0].startswith("power mode 15W, not MAXN; ")
    assert reasons({}, {}, power_mode="MAXN")[0].startswith("power mode unknown, not MAXN; ")


def test_floating_clocks_are_a_note():
    floating = judge(Telemetry(before=limits(729600, 1510400)))
    assert (floating.invalid_reasons, floating.notes) == ((), ("floating clocks (730 to 1510 MHz)",))
    assert judge(Telemetry(before=limits(1510400, 1510400))).notes == ()
    assert judge(Telemetry(before={"clocks": {"locked": False}})).notes == ("floating clocks",)


def test_evidence_is_what_could_have_spoken():
    assert judge(Telemetry()).evidence == ()
    state = {**pi(0), **limits(600000, 2400000)}
    assert judge(Telemetry(state, state)).evidence == ("raspberry_pi", "frequency_limits")
