import numpy as np

from edgekd.measure.telemetry import Telemetry, hottest_c, telemetry_of

BEFORE = {"temperatures_c": {"thermal_zone0 tj-thermal": 40.0}}
AFTER = {"temperatures_c": {"thermal_zone0 tj-thermal": 55.5, "thermal_zone1 gpu-thermal": None}}
EVENTS = [
    {"event": "environment", "telemetry": BEFORE},
    {"event": "telemetry", "samples": {"time_ns": [10, 20], "power_mw": {"VDD_IN": [5000, None]}}},
    {"event": "samples", "end_to_end_ns": [1]},
    {
        "event": "telemetry",
        "samples": {
            "time_ns": [30],
            "power_mw": {"VDD_IN": [7000], "VDD_SOC": [900]},
            "temperatures_c": {"a tj": [58]},
        },
    },
    {"event": "telemetry", "telemetry": AFTER},
]


def test_events_are_put_together():
    found = telemetry_of(EVENTS)
    assert (found.before, found.after) == (BEFORE, AFTER)
    assert found.time_ns.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(found.columns["power_mw"]["VDD_IN"], [5000, np.nan, 7000])
    np.testing.assert_array_equal(found.columns["power_mw"]["VDD_SOC"], [np.nan, np.nan, 900])


def test_values_are_numbers_alone():
    found = telemetry_of(EVENTS)
    assert list(found.values("power_mw")) == [("VDD_IN", 5000), ("VDD_IN", 7000), ("VDD_SOC", 900)]
    assert list(found.values("temperatures_c")) == [("a tj", 58), ("thermal_zone0 tj-thermal", 55.5)]
    assert ("thermal_zone0 tj-thermal", 40.0) in list(found.values("temperatures_c", before=True))


def test_nothing_told_is_nothing():
    found = telemetry_of([{"event": "environment"}, {"event": "telemetry", "telemetry": {}}])
    assert (found.before, found.after, dict(found.columns), len(found.time_ns)) == ({}, {}, {}, 0)
    assert list(found.values("power_mw", before=True)) == []
    assert list(Telemetry().values("power_mw")) == []


def test_the_hottest_sensor_is_one_that_follows_the_temperature():
    assert hottest_c({"thermal_zone0 CPU-therm": 41.5, "thermal_zone1 PMIC-Die": 100.0, "z GPU": None}) == 41.5
    assert hottest_c({"thermal_zone1 PMIC-Die": 100.0}) is None
    assert hottest_c(None) is None
