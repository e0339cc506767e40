"""Several streams on a device: what the agent is asked, and what is left when a run breaks off."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgekd.devices import run_agent
from edgekd.devices.faults import DeviceFault
from edgekd.devices.unfinished import forget
from edgekd.measure.latency import Protocol
from tests.devices.test_run_agent import FakeDevice

RULES = Protocol("mine", 2, warmup_seconds=0.5, min_count=128, min_seconds=2.5, needs_steady=False)


@pytest.fixture
def pack(tmp_path):
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "pack.npy", np.zeros((3, 8, 8, 3), np.uint8))
    return tmp_path / "pack.npy"


def measure(device, tmp_path, pack, **more):
    given = {"streams": 4, "protocol": RULES, "threads": 3, "record": tmp_path / "x.jsonl", **more}
    return run_agent.throughput(device, tmp_path / "x", pack, **given)


def test_what_the_agent_is_asked(tmp_path, pack):
    device = FakeDevice([{"event": "completions", "stream": [], "started_ns": [], "ended_ns": []}])
    events = measure(device, tmp_path, pack, batch=8, frame_px=(24, 32))
    assert events == [device.events] * 2
    (first, second) = device.runs
    assert first == second
    assert first[0] == "throughput"
    given = dict(zip(first[1::2], first[2::2], strict=True))
    assert (given["--streams"], given["--batch"], given["--threads"], given["--frame"]) == ("4", "8", "3", "24x32")
    assert (given["--min-seconds"], given["--min-count"], given["--warmup-seconds"]) == ("2.5", "128", "0.5")
    measure(device, tmp_path, pack)
    assert "--batch" not in device.runs[-1]


class Breaking(FakeDevice):
    """Breaks in its run number `count`."""

    def __init__(self, count):
        super().__init__([])
        self.count = count

    def run(self, arguments, on_event):
        self.runs.append(arguments)
        on_event({"event": "environment", "breaks_in": self.count, "run": len(self.runs)})
        if len(self.runs) == self.count:
            raise DeviceFault("lost", "device fake: gone")


def runs_of(processes):
    return [(events[0]["breaks_in"], events[0]["run"]) for events in processes]


def test_a_fault_costs_the_process_that_it_hits(tmp_path, pack):
    with pytest.raises(DeviceFault):
        measure(Breaking(2), tmp_path, pack)
    assert not (tmp_path / "x.jsonl").exists()
    assert runs_of(measure(Breaking(9), tmp_path, pack)) == [(2, 1), (9, 1)]
    written = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [(event["breaks_in"], event["run"]) for event in written] == [(2, 1), (9, 1)]


@pytest.mark.parametrize("change", [{"streams": 2}, {"batch": 8}])
def test_another_load_is_another_measurement(tmp_path, pack, change):
    with pytest.raises(DeviceFault):
        measure(Breaking(2), tmp_path, pack)
    assert runs_of(measure(Breaking(9), tmp_path, pack, **change)) == [(9, 1), (9, 2)]


def test_a_part_of_a_longer_measurement_is_kept_until_that_is_done(tmp_path, pack):
    first = measure(Breaking(9), tmp_path, pack, keep=True)
    again = Breaking(8)
    assert measure(again, tmp_path, pack, keep=True) == first
    assert again.runs == []
    forget(tmp_path / "x.jsonl")
    assert runs_of(measure(again, tmp_path, pack)) == [(8, 1), (8, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack.npy", "x", "x.jsonl"]


def test_the_single_stream_can_be_such_a_part(tmp_path, pack):
    given = {"protocol": RULES, "threads": 1, "record": tmp_path / "x.jsonl"}
    first = run_agent.profile(Breaking(9), tmp_path / "x", pack, keep=True, **given)
    assert runs_of(run_agent.profile(Breaking(8), tmp_path / "x", pack, keep=True, **given)) == runs_of(first)
    forget(tmp_path / "x.jsonl")
    forget(tmp_path / "x.jsonl")  # nothing is there any more, and that is no fault
    assert runs_of(run_agent.profile(Breaking(8), tmp_path / "x", pack, **given)) == [(8, 1), (8, 2)]
