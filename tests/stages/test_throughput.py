"""Throughput from the command line to the report and the verdict."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from edgekd.devices import run_agent
from edgekd.devices.faults import DeviceFault
from edgekd.report.throughput import alone, alone_per_second, entries, words
from tests.stages.tiny import edgekd, export, lines, read

pytest_plugins = ("tests.stages.whole_run",)

ONE = ("--set", f"export=[{export('onnx-fp32')}]".replace("'", '"'))


@pytest.mark.usefixtures("short")
def test_it_is_measured_beside_the_single_stream_and_judged(run: Path, tmp_path: Path) -> None:
    budgets = "gate={min_images_per_second: {onnx-fp32@local: 0.1}}"
    ended = edgekd("profile", run, *ONE, "--streams", 2, "--streams", 3, "--set", budgets, "--json")
    assert ended.code == 0, ended.err
    assert read_loads(run) == [(2, None), (3, None)]
    told = read(run / "profile/onnx-fp32@local.json")
    alone_ms = told["latency_ms"]["end_to_end"]["mean"]
    assert [(entry["streams"], entry["batch"], entry["valid"]) for entry in told["throughput"]] == [
        (2, 1, True), (3, 1, True),
    ]  # fmt: skip
    for entry in told["throughput"]:
        assert entry["ratio_to_single_stream"] == pytest.approx(entry["images_per_second"] * alone_ms / 1e3)
        assert entry["processes"] == told["processes"]
        record = lines(run / f"profile/onnx-fp32@local.streams-{entry['streams']}.jsonl")
        assert {event["streams"] for event in record if event["event"] == "environment"} == {entry["streams"]}
        assert f"profile onnx-fp32@local: {words(entry)}" in ended.err
    assert not list((run / "profile").glob("*.partial"))
    assert [row["throughput"][1]["streams"] for row in ended.json] == [3]

    judged = edgekd("gate", run, "--json")
    fastest = max(entry["images_per_second"] for entry in told["throughput"])
    (check,) = judged.json["checks"]
    assert (check["metric"], check["value"], check["status"]) == ("min_images_per_second", fastest, "pass")
    assert edgekd("gate", run, "--set", "gate.min_images_per_second.onnx-fp32@local=1000000").code == 1

    edgekd("report", run)
    (row,) = read(run / "report.json")["artifacts"]
    assert [entry["images_per_second"] for entry in row["throughput"]] == [
        entry["images_per_second"] for entry in told["throughput"]
    ]
    assert "| onnx-fp32@local | 3 streams |" in (run / "report.md").read_text()
    assert re.search(r'<td [^>]*class="text">3 streams</td>', (run / "report.html").read_text())
    saved = edgekd("baseline", "save", run, "one", "--store", tmp_path / "store", "--json")
    assert saved.json["artifacts"][0]["images_per_second"] == fastest


def read_loads(run: Path) -> list[tuple[int, int | None]]:
    import yaml

    loads = yaml.safe_load((run / "recipe.lock.yaml").read_text())["profile"]["throughput"]
    return [(load["streams"], load["batch"]) for load in loads]


@pytest.mark.usefixtures("short")
def test_what_ended_before_a_fault_is_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[list[str]] = []
    whole = run_agent._one_process

    def counted(device: Any, arguments: list[str], *rest: Any) -> Any:
        if len(done) == 2 * per_load - 1:
            raise DeviceFault("lost", "device local: gone")
        done.append(arguments[:1])
        return whole(device, arguments, *rest)

    per_load = read(run / "profile/onnx-fp32@local.json")["processes"]
    monkeypatch.setattr(run_agent, "_one_process", counted)
    broken = edgekd("profile", run, *ONE, "--streams", 2)
    assert (broken.code, broken.err.splitlines()[-1]) == (4, "edgekd: error: device local: gone")
    assert done == [["profile"]] * per_load + [["throughput"]] * (per_load - 1)
    done.append([])  # past the fault
    assert edgekd("profile", run, *ONE, "--streams", 2).code == 0
    assert done[2 * per_load :] == [["throughput"]], "only what was missing"
    assert not list((run / "profile").glob("*.partial"))


def test_a_batch_that_no_target_takes_is_said_before_anything_runs(run: Path) -> None:
    ended = edgekd("profile", run, *ONE, "--batch", 8)
    assert ended.code == 2
    (problem,) = ended.problems
    assert problem.endswith(
        "profile.throughput[0].batch: is 8, but onnx-fp32 is exported with a fixed batch of 1; export it with"
        " 'batch: 8' or 'batch: dynamic', or leave the load out"
    )


@pytest.mark.parametrize(
    ("loads", "text"),
    [
        ("[{streams: 0}]", "profile.throughput[0].streams: "),
        ("[{stream: 2}]", "profile.throughput[0].stream: unknown key 'stream' (known: batch, streams"),
        ("[{streams: 2}, {streams: 2}]", "the same load twice; leave one out"),
    ],
)
def test_loads_that_are_none(run: Path, loads: str, text: str) -> None:
    ended = edgekd("profile", run, "--set", f"profile.throughput={loads}")
    assert (ended.code, text in ended.err) == (2, True), ended.err


INVALID = {
    "streams": 4, "batch": 8, "threads": 2, "valid": False, "invalid_reasons": ["too short"], "images_per_second": 9.0,
    "latency_ms": {"p50": 1.0, "p90": None}, "ratio_to_single_stream": 2.0, "images_by_second": [[9]],
}  # fmt: skip


def test_an_invalid_load_shows_no_figure() -> None:
    (shown,) = entries({"throughput": [INVALID]})
    assert shown["images_per_second"] is None
    assert shown["latency_ms"] == {"p50": None, "p90": None}
    assert words(shown) == "4 streams, batch 8: INVALID: too short"


def test_a_valid_one_in_words() -> None:
    entry = {**INVALID, "valid": True, "streams": 1}
    assert words(entry) == ("1 stream, batch 8: 9.0 images/s, 2.00 times a single stream's; median under load 1.00 ms")
    assert words({**entry, "ratio_to_single_stream": None, "batch": 1, "latency_ms": {"p50": 1, "p90": 2}}) == (
        "1 stream: 9.0 images/s; median under load 1.00 ms, p90 2.00 ms"
    )
    assert entries(None) == entries({}) == []


def test_the_single_stream_counts_the_images_of_its_batch() -> None:
    row = {"batch": 4, "latency_ms": {"mean": 20.0}}
    assert (alone(row), alone_per_second(row)) == ("1 stream, batch 4", 200.0)
    assert alone({"batch": 1}) == alone({"batch": None}) == "1 image at a time"
    assert alone_per_second({"batch": None, "latency_ms": {"mean": None}}) is None
