import hashlib
import json

import numpy as np
import pytest

from edgekd.agent.protocol import Reader, pack_array
from edgekd.devices import run_agent
from edgekd.devices.contract import DeviceSpec
from edgekd.errors import EnvironmentFault, InputError
from edgekd.measure.latency import PROTOCOLS, Protocol


class FakeDevice:
    """Answers with prepared events."""

    def __init__(self, events, **spec):
        self.spec = DeviceSpec(name="fake", runtimes=("onnxruntime",), **spec)
        self.events = events
        self.runs = []

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


def test_a_failed_process_writes_nothing(tmp_path, pack):
    class Failing(FakeDevice):
        def run(self, arguments, on_event):
            raise EnvironmentFault("device fake: gone")

    with pytest.raises(EnvironmentFault, match="gone"):
        run_agent.profile(Failing([]), tmp_path / "x", pack, protocol="quick", record=tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()


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
