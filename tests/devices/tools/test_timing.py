import numpy as np
import pytest

from edgekd.devices.tools.tegrastats_log import command, telemetry_of_log
from edgekd.devices.tools.timing import ToolTiming, summarise_tool
from edgekd.errors import EnvironmentFault
from edgekd.measure.contention import UNKNOWN
from edgekd.measure.latency import Protocol, percentile
from edgekd.measure.throttling import Conditions

RULES = Protocol("quick", 2, warmup_seconds=2, min_count=100, min_seconds=0.1, needs_steady=False)


def run(samples=(), **more):
    return ToolTiming(tool="trtexec 10.3.0", lane="gpu_compute", samples_ms=tuple(samples), **more)


def summarised(*processes):
    return summarise_tool(processes, protocol=RULES, target="tensorrt-fp16", device="orin")


def test_percentiles_are_of_the_raw_samples_by_the_one_definition():
    random = np.random.default_rng(0)
    first, second = random.uniform(3, 4, 100), random.uniform(3, 4, 100)
    content = summarised(run(first, own_ms={"median": 99.0}, load_ms=5.0), run(second, load_ms=7.0))
    pooled = np.concatenate([first, second])
    assert content["latency_ms"]["inference"]["p50"] == percentile(pooled, 50)
    assert content["latency_ms"]["inference"]["p95"] == percentile(pooled, 95)
    assert content["latency_ms"]["inference"]["p99"] is None  # 200 samples do not support it
    assert set(content["latency_ms"]) == {"inference"}
    assert content["tool_statistics"] == [{"median": 99.0}, {}]
    assert (content["load_ms"], content["valid"], content["processes"]) == (5.0, True, 2)
    assert sum(content["histogram"]["counts"]) == 200


def test_a_tool_without_raw_samples_gives_its_own_statistics_and_no_percentile():
    content = summarised(run(own_ms={"p95": 28.79}), run(own_ms={"p95": 28.9}))
    assert (content["latency_ms"], content["histogram"]) == ({}, None)
    assert content["tool_statistics"] == [{"p95": 28.79}, {"p95": 28.9}]
    assert content["notes"] == ["trtexec 10.3.0 keeps no raw samples: these are its own statistics", UNKNOWN]
    assert content["valid"] is True


def test_what_is_too_short_is_invalid_and_warnings_are_noted_once():
    content = summarised(run([3.0] * 99, warnings=("unstable",)), run([3.0] * 200, warnings=("unstable",)))
    assert content["invalid_reasons"] == ["too short: 99 of at least 100 samples a process (protocol quick)"]
    assert content["notes"] == [UNKNOWN, "unstable"]
    assert summarised(run(own_ms={"avg": 1.0}))["invalid_reasons"] == ["1 of at least 2 processes (protocol quick)"]
    with pytest.raises(EnvironmentFault, match="no process was run"):
        summarised()


def _log(*power_mw, hottest_c=50):
    lines = [
        f"RAM 1/2MB (lfb 1x4MB) CPU [3%@729] GR3D_FREQ 90%@[918] tj@{hottest_c}C VDD_IN {power}mW/1mW"
        for power in power_mw
    ]
    return telemetry_of_log("\n".join(["Cannot open debugfs", *lines]))


def test_a_log_of_tegrastats_is_telemetry():
    found = _log(5000, 7000, 6000)
    assert found.time_ns.tolist() == [0, 500_000_000, 1_000_000_000]
    assert found.columns["power_mw"]["VDD_IN"].tolist() == [5000, 7000, 6000]
    assert found.columns["temperatures_c"]["tj"].tolist() == [50] * 3
    assert found.columns["gpu_clocks_mhz"]["cluster0"].tolist() == [918] * 3
    assert command() == ["tegrastats", "--interval", "500"]


def test_energy_is_power_over_throughput_where_inferences_overlap():
    # 250 inferences of 4 ms (wall) in 1 s, each of which took 5 ms from its own start to its end
    process = run([5.0] * 250, wall_ms=4.0)
    content = summarise_tool(
        [process] * 2, protocol=RULES, target="t", device="d", telemetry=[_log(6000, 6000, 6000)] * 2
    )
    assert content["energy_mj_per_inference"] == pytest.approx(24)
    assert content["energy"]["total_rule"] == "VDD_IN"
    own = ToolTiming("benchmark_model", "inference", own_ms={"avg": 20.0}, count=50)
    content = summarise_tool([own] * 2, protocol=RULES, target="t", device="d", telemetry=[_log(3000, 3000, 3000)] * 2)
    assert content["energy_mj_per_inference"] == pytest.approx(60)
    assert summarised(own, own)["energy"]["reason"] == "no power sensor was read"


def test_heat_makes_it_invalid():
    hot = _log(6000, hottest_c=97.5)
    content = summarise_tool(
        [run([3.0] * 200)] * 2, protocol=RULES, target="t", device="d", telemetry=[_log(6000), hot],
        conditions=Conditions(stay_below_c=95),
    )  # fmt: skip
    assert content["invalid_reasons"] == ["process 2: tj: 97.5 C, above the limit of 95 C"]
    assert content["throttling_evidence"] == ["temperature"]
