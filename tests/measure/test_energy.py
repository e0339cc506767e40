import numpy as np
import pytest

from edgekd.measure.energy import energy, total_rule
from edgekd.measure.telemetry import Telemetry

SECOND = 1_000_000_000


def process(rails, moments_s=(0, 1, 2, 3, 4)):
    columns = {name: np.asarray(power, np.float64) for name, power in rails.items()}
    return Telemetry(time_ns=np.asarray(moments_s, np.float64) * SECOND, columns={"power_mw": columns} if rails else {})


def passes(count, each_ms):
    return np.full(count, each_ms * 1e6, np.int64)


@pytest.mark.parametrize(
    ("rails", "rule"),
    [
        (["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"], "VDD_IN"),
        (["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"], "POM_5V_IN"),
        (["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"], "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"),
        (["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0", "VIN"], "VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0"),
        (["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"], "GPU + CPU + SOC + CV + VDDRQ + SYS5V"),
        (["VDD_GPU_SOC", "VDD_CPU_CV"], None),
        ([], None),
    ],
)
def test_what_the_total_is_made_of(rails, rule):
    found = total_rule(rails)
    assert (found.name if found else None) == rule


def test_power_times_time_of_a_pass():
    found = energy([process({"VDD_IN": [6000] * 5, "VDD_SOC": [1500] * 5})], [passes(400, 10.0)])
    assert found == {
        "mj_per_inference": pytest.approx(60.0),  # 6 W for 10 ms
        "process_mj": [pytest.approx(60.0)],
        "mean_power_mw": 6000,
        "rails_mw": {"VDD_IN": 6000, "VDD_SOC": 1500},
        "total_rule": "VDD_IN",
        "samples": 5,
        "idle_subtracted": False,
        "reason": None,
    }


def test_rails_are_summed_where_there_is_no_total():
    rails = {
        "VDD_GPU_SOC": [4000] * 5,
        "VDD_CPU_CV": [1000] * 5,
        "VIN_SYS_5V0": [3000] * 5,
        "VDDQ_VDD2_1V8AO": [900] * 5,
    }
    found = energy([process(rails)], [passes(2000, 2.0)])
    assert found["mj_per_inference"] == pytest.approx(16.0)
    assert found["rails_mw"]["VDDQ_VDD2_1V8AO"] == 900


def test_power_is_a_mean_over_time_not_over_readings():
    crowded = process({"VDD_IN": [4000, 4000, 8000, 8000, 8000]}, moments_s=(0, 3, 3.9, 3.95, 4))
    # trapezoids: 4 W for 3 s, 6 W for 0.9 s, 8 W for 0.1 s
    assert energy([crowded], [passes(400, 10.0)])["mean_power_mw"] == pytest.approx((12000 + 5400 + 800) / 4)


def test_the_mean_over_processes():
    found = energy(
        [process({"VDD_IN": [5000] * 5}), process({"VDD_IN": [7000] * 5})], [passes(200, 20), passes(400, 10)]
    )
    assert found["process_mj"] == [pytest.approx(100), pytest.approx(70)]
    assert found["mj_per_inference"] == pytest.approx(85)
    assert found["mean_power_mw"] == pytest.approx(6000)


def test_readings_that_failed_are_left_out():
    found = energy([process({"VDD_IN": [6000, None, 6000, None, 6000], "VDD_SOC": [None] * 5})], [passes(400, 10.0)])
    assert found["mj_per_inference"] == pytest.approx(60)
    assert (found["samples"], found["rails_mw"]) == (3, {"VDD_IN": 6000})


@pytest.mark.parametrize(
    ("telemetry", "reason"),
    [
        (process({}), "no power sensor was read"),
        (process({"VDD_SOC": [1] * 5, "VDD_MISC": [1] * 5}), "no rule for the sum of the rails VDD_SOC, VDD_MISC"),
        (process({"VDD_IN": [6000, 6000]}, (0, 4)), "2 of at least 3 readings of power in a process"),
        (process({"VDD_IN": [6000] * 3}, (0, 1, 2)), "power was read over 2.0 of 4.0 s"),
    ],
)
def test_no_figure_without_enough_readings(telemetry, reason):
    found = energy([telemetry], [passes(400, 10.0)])
    assert (found["mj_per_inference"], found["reason"]) == (None, reason)
    assert found["process_mj"] == []


def test_a_process_without_power_leaves_no_figure():
    assert (
        energy([process({"VDD_IN": [6000] * 5}), process({})], [passes(4, 1)] * 2)["reason"]
        == "no power sensor was read"
    )
