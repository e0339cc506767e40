import hashlib
import json
import os

import numpy as np
import pytest

from edgekd.agent.protocol import Reader, pack_array
from edgekd.devices import run_agent
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.faults import DeviceFault
from edgekd.errors import EnvironmentFault, InputError
from edgekd.measure.latency import PROTOCOLS, Protocol


class FakeDevice:
    """Answers with prepared events."""

    def __init__(self, events, **spec):
        self.spec = DeviceSpec(name="fake", runtimes=("onnxruntime",), **spec)
        self.events = events
        self.runs = []

    def facts(self):
        return {"cores": 5}

    def push(self, source):
        return f"/remote/{source.name}"

    def run(self, arguments, on_event):
        self.runs.append(list(arguments))
        for event in self.events:
            on_event(dict(event))

    def close(self):
        pass


def answers(count, claimed=None, shift=0):
    boxes, scores, classes = np.ones((2, 4), np.float32), np.full(2, 0.5, np.float32), np.array([1, 0])
    yield {"event": "environment", "images": count if claimed is None else claimed}
    yield {"event": "load", "load_ms": 3.0, "first_inference_ms": 1.0}
    for index in range(count):
        yield {
            "event": "detections", "index": index + shift, "boxes_px": pack_array(boxes + index),
            "scores": pack_array(scores), "class_ids": pack_array(classes),
        }  # fmt: skip


@pytest.fixture
def pack(tmp_path):
    np.save(tmp_path / "pack.npy", np.zeros((3, 8, 8, 3), np.uint8))
    return tmp_path / "pack.npy"


def predict(device, tmp_path, pack, **more):
    return run_agent.predict(device, tmp_path / "onnx-fp32", pack, conf=0.001, iou=0.7, max_det=300, **more)


def test_predict_returns_the_detections_in_order(tmp_path, pack):
    device = FakeDevice(list(answers(3)))
    prediction = predict(device, tmp_path, pack, threads=2)
    assert [found.boxes_px[0, 0] for found in prediction.detections] == [1, 2, 3]
    assert prediction.detections[0].class_ids.tolist() == [1, 0]
    assert prediction.load["load_ms"] == 3.0
    assert prediction.environment["images"] == 3
    assert device.runs == [[
        "predict", "--artifact", "/remote/onnx-fp32", "--pack", "/remote/pack.npy", "--threads", "2",
        "--conf", "0.001", "--iou", "0.7", "--max-det", "300",
    ]]  # fmt: skip


def test_threads_come_from_the_device_unless_given(tmp_path, pack):
    device = FakeDevice(list(answers(3)), threads=3)
    predict(device, tmp_path, pack)
    assert device.runs[0][device.runs[0].index("--threads") + 1] == "3"
    device = FakeDevice(list(answers(3)))
    predict(device, tmp_path, pack)
    assert device.runs[0][device.runs[0].index("--threads") + 1] == "5"


def test_the_device_says_where_a_runtime_has_to_run(tmp_path, pack):
    (tmp_path / "onnx-fp32").mkdir()
    (tmp_path / "onnx-fp32" / "edgekd.json").write_text('{"runtime": "onnxruntime"}')
    providers = {"onnxruntime": ("QNNExecutionProvider", "CPUExecutionProvider")}
    options = {"QNNExecutionProvider": {"backend_path": "libQnnHtp.so", "profiling_level": 1}}
    device = FakeDevice(list(answers(3)), providers=providers, provider_options=options)
    predict(device, tmp_path, pack)
    (run,) = device.runs
    where = run[run.index("--provider") : run.index("--conf")]
    assert where[:5] == [
        "--provider", "QNNExecutionProvider", "--provider", "CPUExecutionProvider", "--provider-options",
    ]  # fmt: skip
    assert json.loads(where[5]) == options
    (tmp_path / "onnx-fp32" / "edgekd.json").write_text('{"runtime": "openvino"}')
    predict(device, tmp_path, pack)
    assert "--provider" not in device.runs[1]


def test_missing_answers_are_a_fault(tmp_path, pack):
    with pytest.raises(EnvironmentFault, match="2 answers for 3 images"):
        predict(FakeDevice(list(answers(2, claimed=3))), tmp_path, pack)
    with pytest.raises(EnvironmentFault, match="image 1 came where 0 was due"):
        predict(FakeDevice(list(answers(2, shift=1))), tmp_path, pack)


def test_profile_runs_fresh_processes_and_keeps_every_line(tmp_path, pack):
    events = [
        {"event": "environment", "share": 0.1},
        {"event": "samples", "pre_ns": [1], "inference_ns": [2], "post_ns": [3], "end_to_end_ns": [6]},
    ]
    lines = b"".join(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events)
    events.append({"event": "end", "count": 2, "sha256": hashlib.sha256(lines).hexdigest()})
    (tmp_path / "x").mkdir()
    device, record = FakeDevice(events), tmp_path / "profile/x@fake.jsonl"
    rules = Protocol("mine", 2, warmup_seconds=0.5, min_count=128, min_seconds=2.5, needs_steady=False)
    result = run_agent.profile(
        device, tmp_path / "x", pack, protocol=rules, threads=1, frame_px=(720, 1280), record=record
    )
    assert result == [events, events]
    assert len(device.runs) == 2
    given = dict(zip(device.runs[0][1::2], device.runs[0][2::2], strict=True))
    assert given["--frame"] == "720x1280"
    assert given["--warmup-seconds"] == "0.5"
    assert given["--min-seconds"] == "2.5"
    assert given["--min-count"] == "128"
    written = record.read_bytes().splitlines(keepends=True)
    for process in (written[:3], written[3:]):
        reader = Reader()
        assert [reader.feed(line) for line in process] == events
        assert reader.complete


def test_protocols_are_those_that_the_summary_checks(tmp_path, pack, monkeypatch):
    slept = []
    monkeypatch.setattr(run_agent.time, "sleep", slept.append)
    for name, cool_downs in (("quick", 0), ("full", 2)):
        device = FakeDevice([])
        run_agent.profile(device, tmp_path / "x", pack, protocol=name)
        assert len(device.runs) == PROTOCOLS[name].min_processes
        assert slept == [60.0] * cool_downs
    with pytest.raises(
        InputError, match=r"profile.protocol: unknown protocol 'quik' \(known: full, quick; did you mean"
    ):
        run_agent.profile(FakeDevice([]), tmp_path / "x", pack, protocol="quik")


class TestAFault:
    """It costs the process that it hits, none before."""

    RULES = Protocol("mine", 3, warmup_seconds=0.5, min_count=1, min_seconds=1, needs_steady=False)

    def profile(self, tmp_path, pack, device, **more):
        (tmp_path / "x").mkdir(exist_ok=True)
        given = {"protocol": self.RULES, "record": tmp_path / "x.jsonl", "threads": 1, **more}
        return run_agent.profile(device, tmp_path / "x", pack, **given)

    def broken_after(self, count):
        """A device that breaks in its run number `count`, after its first event; runs are numbered in their events."""

        class Breaking(FakeDevice):
            def run(self, arguments, on_event):
                self.runs.append(arguments)
                on_event({"event": "environment", "run": len(self.runs), "breaks_in": count})
                if len(self.runs) == count:
                    raise DeviceFault("lost", "device fake: gone")
                on_event({"event": "end"})

        return Breaking([])

    def runs_of(self, processes):
        return [(process[0]["breaks_in"], process[0]["run"]) for process in processes]

    def test_the_same_call_goes_on_behind_what_was_finished(self, tmp_path, pack):
        with pytest.raises(DeviceFault, match="gone"):
            self.profile(tmp_path, pack, self.broken_after(3))
        assert not (tmp_path / "x.jsonl").exists()
        with pytest.raises(DeviceFault, match="gone"):
            self.profile(tmp_path, pack, self.broken_after(1))
        device = self.broken_after(9)
        processes = self.profile(tmp_path, pack, device)
        assert self.runs_of(processes) == [(3, 1), (3, 2), (9, 1)]
        assert len(device.runs) == 1
        written = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
        assert written == [event for process in processes for event in process]
        assert not (tmp_path / "x.jsonl.partial").exists()
        assert self.runs_of(self.profile(tmp_path, pack, self.broken_after(8))) == [(8, 1), (8, 2), (8, 3)]

    @pytest.mark.parametrize("change", ["artifact", "pack", "settings", "device", "damage", "age"])
    def test_what_was_measured_otherwise_does_not_count(self, tmp_path, pack, change):
        with pytest.raises(DeviceFault):
            self.profile(tmp_path, pack, self.broken_after(3))
        device, more, partial = self.broken_after(9), {}, tmp_path / "x.jsonl.partial"
        if change == "artifact":
            (tmp_path / "x/model.onnx").write_text("other")
        elif change == "pack":
            np.save(pack, np.ones((3, 8, 8, 3), np.uint8))
        elif change == "settings":
            more = {"settings": ["--conf", "0.5"]}
        elif change == "device":
            device.spec = device.spec.model_copy(update={"power_mode": "15W"})
        elif change == "damage":
            partial.write_bytes(partial.read_bytes()[:-9])
        else:
            os.utime(partial, (0, 0))
        assert self.runs_of(self.profile(tmp_path, pack, device, **more)) == [(9, 1), (9, 2), (9, 3)]

    def test_without_a_record_nothing_is_kept(self, tmp_path, pack):
        with pytest.raises(DeviceFault):
            self.profile(tmp_path, pack, self.broken_after(3), record=None)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["pack.npy", "x"]


def test_telemetry_is_read_as_often_as_the_device_says(tmp_path, pack):
    for spec, words in (({}, []), ({"telemetry_seconds": 0}, ["--telemetry-seconds", "0.0"])):
        device = FakeDevice([], **spec)
        run_agent.profile(device, tmp_path / "x", pack, protocol=Protocol("own", 1, 0.1, 1, 0.1, False))
        assert device.runs[0][device.runs[0].index("--min-count") + 2 :] == words


def test_a_process_that_waited_to_cool_down_says_so_first(tmp_path, pack):
    told = {"event": "telemetry", "telemetry": {"temperatures_c": {"tj": 41.0}}}
    device = FakeDevice([told], start_below_c=50)
    (events,) = run_agent.profile(device, tmp_path / "x", pack, protocol=Protocol("own", 1, 0.1, 1, 0.1, False))
    assert [event["event"] for event in events] == ["thermal_gate", "telemetry"]
    assert device.runs[0] == ["state"]
