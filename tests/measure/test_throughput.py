"""Images per second of synthetic completions, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgekd.errors import EnvironmentFault
from edgekd.measure.latency import Protocol
from edgekd.measure.throttling import Conditions
from edgekd.measure.throughput import best, summarise_throughput, window_of

MS = 1_000_000
ANY = Protocol("quick", 1, warmup_seconds=0, min_count=1, min_seconds=0, needs_steady=False)


def process(*completions_ms, window_ms, streams=2, batch=1, steady=True, peak=2_000_000):
    """(stream, started, ended) in ms, each in a chunk of its own."""
    chunks = [
        {"event": "completions", "stream": [stream], "started_ns": [start * MS], "ended_ns": [end * MS]}
        for stream, start, end in completions_ms
    ]
    return [
        {"event": "environment", "streams": streams, "threads": 4, "input": {"shape": [batch, 3, 8, 8]}},
        {"event": "load", "load_ms": 5.0, "first_inference_ms": 9.0},
        {"event": "warmup", "steady": steady},
        *chunks,
        {"event": "window", "window_ns": window_ms * MS},
        {"event": "contention", "ran_ns": 1, "waited_ns": 0, "others_ns": 0, "stolen_ns": 0, "cores": 2},
        {"event": "memory", "peak_memory_bytes": peak},
        {"event": "end", "count": 5, "sha256": "00"},
    ]


def even(*, every_ms, window_ms, streams, batch=1):
    """Streams in step: each ends an inference every so many ms, and two were under way at the edges."""
    ends = range(every_ms, window_ms + 2 * every_ms, every_ms)
    found = [(stream, end - every_ms, end) for end in ends for stream in range(streams)]
    return process(*found, window_ms=window_ms, streams=streams, batch=batch)


def summarised(*processes, protocol=ANY, **more):
    return summarise_throughput(processes, protocol=protocol, target="onnx-fp32", device="local", **more)


def test_what_ended_in_the_window_counts_by_the_wall_clock():
    # Four in 20 ms; the first began before it opened, the last two ended after it closed.
    content = summarised(process(
        (0, -3, 2), (1, 0, 8), (0, 2, 11), (1, 8, 20), (0, 11, 21), (1, 20, 29), window_ms=20,
    ))  # fmt: skip
    assert content["images_per_second"] == 4 / 0.020
    assert content["latency_ms"]["count"] == 4
    assert content["latency_ms"]["p50"] == 8  # of 5, 8, 9, 12
    assert (content["latency_ms"]["min"], content["latency_ms"]["max"]) == (5, 12)
    assert content["latency_ms"]["p90"] is None  # four samples say nothing of it
    json.dumps(content, allow_nan=False)


def test_each_inference_brings_a_batch():
    assert summarised(even(every_ms=20, window_ms=1000, streams=1))["images_per_second"] == 50
    assert summarised(even(every_ms=20, window_ms=1000, streams=4))["images_per_second"] == 200
    content = summarised(even(every_ms=20, window_ms=1000, streams=4, batch=8))
    assert (content["images_per_second"], content["streams"], content["batch"]) == (1600, 4, 8)
    assert content["latency_ms"]["p50"] == 20  # of the whole batch


def test_processes_are_pooled_by_their_time():
    slow, fast = even(every_ms=50, window_ms=1000, streams=1), even(every_ms=10, window_ms=3000, streams=1)
    content = summarised(slow, fast)
    assert content["process_images_per_second"] == [20, 100]
    assert content["images_per_second"] == (20 + 300) / 4
    assert content["processes"] == 2
    assert content["spread"] == 4.0
    assert "the processes differ by 400.0%; differences below that mean nothing here" in content["notes"]


def test_ratio_to_the_single_stream():
    content = summarised(even(every_ms=20, window_ms=1000, streams=4), single_stream_per_second=80.0)
    assert content["ratio_to_single_stream"] == 2.5
    assert summarised(even(every_ms=20, window_ms=1000, streams=4))["ratio_to_single_stream"] is None


def test_percentiles_follow_their_counts():
    few, many = even(every_ms=20, window_ms=1260, streams=1), even(every_ms=20, window_ms=1280, streams=1)
    assert summarised(few)["latency_ms"]["p90"] is None  # 63
    assert summarised(many)["latency_ms"]["p90"] == 20  # 64


def test_its_course_over_the_seconds():
    ends = [*range(100, 1000, 100), *range(1050, 2000, 50), 2100]
    content = summarised(process(*((0, end - 50, end) for end in ends), window_ms=2200, batch=2, streams=1))
    assert content["images_by_second"] == [[18, 38]]  # 9 and 19 inferences; the broken second is not one
    assert content["cv_by_second"] == pytest.approx(50**0.5 / 14)
    assert content["drift_percent"] == 0
    short = summarised(even(every_ms=20, window_ms=900, streams=1))
    assert (short["images_by_second"], short["cv_by_second"]) == ([[]], None)


def test_a_stream_that_starves_is_noted():
    fair = even(every_ms=20, window_ms=1000, streams=2)
    starved = process(*((int(end > 980), end - 20, end) for end in range(20, 1001, 20)), window_ms=1000)
    assert summarised(fair)["notes"] == []
    assert summarised(starved)["notes"] == ["a stream got 2% of the work, where 50% would be its share"]


def test_chunks_out_of_order_are_put_in_order():
    window = window_of(process((1, 5, 9), (0, 1, 8), window_ms=10), "here")
    assert (window.ended_ns // MS).tolist() == [8, 9]
    assert window.stream.tolist() == [0, 1]


def test_what_makes_it_invalid():
    rules = Protocol("full", 2, warmup_seconds=2, min_count=60, min_seconds=1.5, needs_steady=True)
    events = process(*((0, end - 20, end) for end in range(20, 1001, 20)), window_ms=1000, streams=1, steady=False)
    content = summarised(events, protocol=rules)
    assert (content["valid"], content["images_per_second"]) == (False, 50)
    assert content["invalid_reasons"] == [
        "1 of at least 2 processes (protocol full)",
        "too short: 50 of at least 60 inferences a process (protocol full)",
        "too short: 1.00 of at least 1.5 s a process (protocol full)",
        "the warm-up never became steady (process 1 of 1)",
    ]
    noted = summarised(events, protocol=ANY)
    assert (noted["valid"], noted["notes"]) == (True, ["the warm-up never became steady (process 1 of 1)"])


def hot(kind="temperatures_c"):
    events = even(every_ms=20, window_ms=1000, streams=2)
    events[-1:] = [{"event": "telemetry", "telemetry": {kind: {"soc": 90.0}}}]
    return events


def test_a_device_that_was_too_hot_makes_it_invalid_unless_that_is_the_question():
    conditions = Conditions(stay_below_c=80)
    content = summarised(hot(), conditions=conditions)
    assert content["invalid_reasons"] == ["process 1: soc: 90.0 C, above the limit of 80 C"]
    sustained = summarised(hot(), conditions=conditions, protocol=replace(ANY, may_throttle=True))
    assert (sustained["valid"], sustained["notes"]) == (True, content["invalid_reasons"])


def test_of_an_emulated_device_there_is_no_figure():
    content = summarised(even(every_ms=20, window_ms=1000, streams=2), conditions=Conditions(emulated="said so"))
    assert (content["valid"], content["invalid_reasons"]) == (False, ["emulated: said so"])
    assert (content["images_per_second"], content["latency_ms"]["p50"], content["images_by_second"]) == (None, None, [])
    assert (content["streams"], content["batch"], content["threads"]) == (2, 1, 4)


def powered(window_ms, mw):
    events = even(every_ms=20, window_ms=window_ms, streams=2, batch=4)
    times = [moment * MS for moment in range(0, window_ms + 1, 100)]
    samples = {"time_ns": times, "power_mw": {"VDD_IN": [mw] * len(times)}}
    return [*events[:-1], {"event": "telemetry", "samples": samples}]


def test_energy_is_power_over_the_rate():
    # 10 W, 100 inferences of 4 images a second: 100 mJ an inference, 25 mJ an image.
    assert summarised(powered(5000, 10_000.0))["energy_mj_per_image"] == pytest.approx(25)


def test_the_best_is_a_valid_one():
    entries = [
        {"valid": True, "images_per_second": 10.0},
        {"valid": True, "images_per_second": 12.0},
        {"valid": False, "images_per_second": 90.0},
    ]
    assert best(entries) == entries[1]
    assert best(entries[2:]) is None
    assert best([]) is None


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([{"event": "error", "kind": "runtime", "message": "no"}], "process 1: runtime: no"),
        (process((0, 1, 9), window_ms=8), "process 1: the agent gave no inference that ended in time"),
        (process(window_ms=8), "no inference that ended in time"),
    ],
)
def test_failures_name_target_device_and_process(events, text):
    with pytest.raises(EnvironmentFault, match=f"throughput onnx-fp32@local: .*{text}"):
        summarised(events)
    with pytest.raises(EnvironmentFault, match="no process was run"):
        summarised()
