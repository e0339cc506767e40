"""From the agent's events to a latency summary file."""

from __future__ import annotations

import json

import pytest

from edgekd.errors import EnvironmentFault
from edgekd.measure.latency import Protocol
from edgekd.measure.latency_events import summarise_events
from edgekd.measure.throttling import Conditions

ANY = Protocol("quick", 1, warmup_seconds=0, min_count=1, min_seconds=0, needs_steady=True)


def chunk(*end_to_end_ms):
    whole = [round(time * 1e6) for time in end_to_end_ms]
    return {
        "event": "samples",
        "pre_ns": [100_000] * len(whole),
        "inference_ns": [time - 300_000 for time in whole],
        "post_ns": [200_000] * len(whole),
        "end_to_end_ns": whole,
    }


def events(*chunks, load_ms=5.0, first_ms=9.0, peak=2_000_000, steady=True):
    return [
        {"event": "environment", "machine": "box", "load": load_ms},
        {"event": "load", "load_ms": load_ms, "first_inference_ms": first_ms},
        {"event": "warmup", "steady": steady},
        *chunks,
        {"event": "memory", "peak_memory_bytes": peak},
        {"event": "telemetry", "telemetry": {"load_1min": load_ms + 1}},
        {"event": "end", "count": 5, "sha256": "00"},
    ]


def summarised(*processes):
    return summarise_events(processes, protocol=ANY, target="onnx-fp32", device="local")


def test_summary_of_two_processes():
    content = summarised(
        events(chunk(1, 2), chunk(3), load_ms=7.0, first_ms=20.0, peak=3_500_000), events(chunk(2, 2, 9), load_ms=6.0)
    )
    assert content["schema"] == "edgekd.latency/1"
    assert (content["target"], content["device"], content["protocol"]) == ("onnx-fp32", "local", "quick")
    assert (content["processes"], content["process_p50_ms"]) == (2, [2, 2])
    assert set(content["latency_ms"]) == {"pre", "inference", "post", "end_to_end"}
    assert content["latency_ms"]["end_to_end"]["count"] == 6
    assert content["latency_ms"]["end_to_end"]["max"] == 9
    assert content["latency_ms"]["inference"]["min"] == 0.7
    assert (content["load_ms"], content["first_inference_ms"], content["peak_memory_mb"]) == (6.0, 9.0, 3.5)
    assert content["environment"] == {"machine": "box", "load": 7.0, "telemetry_after": {"load_1min": 8.0}}
    assert (content["valid"], content["invalid_reasons"]) == (True, [])
    assert sum(content["histogram"]["counts"]) == 6
    json.dumps(content, allow_nan=False)


def test_chunks_keep_their_order():
    rising = summarised(events(chunk(10, 11), chunk(12, 13)))
    assert rising["drift_percent"] > 0
    assert summarised(events(chunk(12, 13), chunk(10, 11)))["drift_percent"] < 0


def test_unsteady_warm_up_makes_it_invalid():
    content = summarised(events(chunk(1)), events(chunk(1), steady=False))
    assert content["valid"] is False
    assert content["invalid_reasons"] == ["the warm-up never became steady (process 2 of 2)"]


def test_building_an_engine_is_told_apart_from_loading_it():
    first, second = events(chunk(1)), events(chunk(1))
    first[1]["build_ms"] = 61_240.0
    content = summarised(first, second)
    assert (content["build_ms"], content["load_ms"]) == (61_240.0, 5.0)
    assert content["notes"][0] == "the engine was built on the device, in 61.2 s"


def test_what_the_agent_did_not_say_is_none():
    content = summarised([chunk(1, 2)])
    assert content["build_ms"] is None
    assert (content["load_ms"], content["first_inference_ms"], content["peak_memory_mb"]) == (None, None, None)
    assert content["environment"] == {}


def test_failures_name_target_device_process_and_cause():
    failed = [{"event": "error", "kind": "runtime", "message": "provider refused"}]
    with pytest.raises(EnvironmentFault, match="profile onnx-fp32@local: process 2: runtime: provider refused"):
        summarised(events(chunk(1)), failed)
    with pytest.raises(EnvironmentFault, match=r"process 1: the agent gave unequal or no samples \(pre 0, "):
        summarised(events())
    with pytest.raises(EnvironmentFault, match="no process was run"):
        summarised()


def with_telemetry(event, *, before=None, during=None, after=None, gate=None):
    """The events of one process of 4 s, with the state of the device."""
    process = [dict(one) for one in events(event)]
    process[0]["telemetry"] = before or {}
    process[0]["platform"] = {"machine": "aarch64"}
    process[-2]["telemetry"] = after or {}
    sampled = [{"event": "telemetry", "samples": during}] if during else []
    gated = [{"event": "thermal_gate", **gate}] if gate else []
    return [*gated, *process[:3], *sampled, *process[3:]]


def test_energy_per_inference():
    moments = [second * 10**9 for second in range(5)]
    during = {"time_ns": moments, "power_mw": {"VDD_IN": [6000] * 5}, "temperatures_c": {"tj": [50, 52, 54, 55, 55]}}
    before = {"temperatures_c": {"tj": 41.0}}
    content = summarised(with_telemetry(chunk(*[10] * 400), before=before, during=during))
    assert content["energy_mj_per_inference"] == pytest.approx(60)
    assert content["energy"]["total_rule"] == "VDD_IN"
    assert content["temperature_c"] == {"start": 41, "max": 55}
    assert content["valid"] is True
    without = summarised(events(chunk(1)))
    assert (without["energy_mj_per_inference"], without["energy"]["reason"]) == (None, "no power sensor was read")
    assert (without["temperature_c"], without["throttling_evidence"]) == ({"start": None, "max": None}, [])


def test_a_throttled_process_makes_it_invalid_and_floating_clocks_are_noted_once():
    calm = {"pi_throttled": {"bits": 0}, "min_frequencies_khz": {"policy0": 6}, "max_frequencies_khz": {"policy0": 24}}
    hot = {**calm, "pi_throttled": {"bits": 0x40000}}
    content = summarised(
        with_telemetry(chunk(1), before=calm, after=calm),
        with_telemetry(chunk(1), before=calm, after=hot),
    )
    assert content["valid"] is False
    assert content["invalid_reasons"] == ["process 2: Raspberry Pi: throttled has occurred (bits 0x40000)"]
    assert [note for note in content["notes"] if "floating" in note] == ["floating clocks (0 to 0 MHz)"]
    assert content["throttling_evidence"] == ["frequency_limits", "raspberry_pi"]


def test_conditions_of_the_device_and_its_thermal_gate():
    state = {"temperatures_c": {"tj": 96.0}}
    process = with_telemetry(chunk(1), after=state, gate={"passed": False, "reason": "80.0 C after 600 s, above 50 C"})
    content = summarise_events([process], protocol=ANY, target="x", device="y", conditions=Conditions(stay_below_c=95))
    assert content["invalid_reasons"] == [
        "process 1: it began too hot: 80.0 C after 600 s, above 50 C",
        "process 1: tj: 96.0 C, above the limit of 95 C",
    ]
