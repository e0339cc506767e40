"""The agent as it ships: one file, run by a Python that knows nothing of edgekd."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgekd.agent
from edgekd.agent.protocol import Reader, unpack_array
from edgekd.devices.agent_archive import build
from edgekd.testing.artifacts import QUADRANTS_PX, expected_scores, make_images, write_artifact, write_pack

AGENT = Path(edgekd.agent.__file__).parent

# Runs the archive with edgekd and torch out of reach, and tells on standard error what was imported after all.
BLOCKED = """
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("edgekd", "torch", "ultralytics", "pydantic"):
            raise AssertionError("imported " + name)
sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return build(tmp_path_factory.mktemp("agent"))


def run_agent(archive, *arguments):
    """(events, exit code, standard error)"""
    command = [sys.executable, "-I", "-c", BLOCKED, str(archive), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, timeout=600, check=False)
    reader = Reader()
    events = [reader.feed(line) for line in ended.stdout.splitlines(keepends=True)]
    assert reader.complete == (ended.returncode == 0), ended.stderr.decode()
    return events, ended.returncode, ended.stderr.decode()


def of_kind(events, kind):
    return [event for event in events if event["event"] == kind]


def test_a_command_line_that_it_cannot_read(archive):
    events, code, said = run_agent(archive, "predict", "--artifact", "a", "--pack", "b", "--threads", "None")
    message = "edgekd-agent predict: error: argument --threads: invalid _count value: 'None'"
    assert events == [{"event": "error", "kind": "usage", "message": message}]
    assert code == 2
    assert said.startswith("usage: edgekd-agent predict ")
    assert said.endswith(f"{message}\n")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", [None, 2])
def test_predict_gives_the_detections_of_every_image(tmp_path, archive, runtime, batch):
    artifact, pack = write_artifact(tmp_path / "tiny", runtime=runtime, batch=batch), write_pack(tmp_path, 5)
    events, _, _ = run_agent(archive, "predict", "--artifact", artifact, "--pack", pack, "--conf", 0.45, "--max-det", 4)
    assert [event["event"] for event in events] == [
        "environment", "load", *["detections"] * 5, "memory", "telemetry", "end",
    ]  # fmt: skip
    scores = expected_scores(make_images(5))
    for image, event in enumerate(of_kind(events, "detections")):
        points, classes = np.nonzero(scores[image] > 0.45)
        order = np.argsort(-scores[image][points, classes], kind="stable")[:4]
        assert event["index"] == image
        np.testing.assert_allclose(unpack_array(event["scores"]), scores[image][points, classes][order], atol=1e-6)
        np.testing.assert_array_equal(unpack_array(event["class_ids"]), classes[order])
        np.testing.assert_array_equal(unpack_array(event["boxes_px"]), QUADRANTS_PX[points[order]])
    environment = events[0]
    assert environment["runtime"]["name"] == runtime
    assert environment["runtime"]["providers"] == [{"onnxruntime": "CPUExecutionProvider", "openvino": "CPU"}[runtime]]
    if runtime == "openvino":  # some processors would compute an fp32 model in bf16 unless told otherwise
        assert environment["runtime"]["options"]["INFERENCE_PRECISION_HINT"] == "f32"
    assert environment["input"]["shape"] == [batch or 1, 3, 8, 8]
    assert environment["model_sha256"] == next(
        iter(json.loads((artifact / "edgekd.json").read_text())["files"].values())
    )
    assert environment["platform"]["thread_variables"]["OMP_NUM_THREADS"] == "1"
    assert of_kind(events, "memory")[0]["peak_memory_bytes"] > 10e6


def test_end_to_end_models_need_no_nms(tmp_path, archive):
    artifact, pack = write_artifact(tmp_path / "tiny", decode="end2end"), write_pack(tmp_path, 3)
    events, _, _ = run_agent(archive, "predict", "--artifact", artifact, "--pack", pack, "--batch", 3, "--conf", 0.45)
    for image, event in enumerate(of_kind(events, "detections")):
        red = expected_scores(make_images(3))[image][:, 0]
        np.testing.assert_allclose(unpack_array(event["scores"]), red[red > 0.45], atol=1e-6)


def test_profile_gives_raw_samples_in_order(tmp_path, archive):
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    events, _, _ = run_agent(
        archive, "profile", "--artifact", artifact, "--pack", pack, "--frame", "24x32", "--min-seconds", 0.2,
        "--min-count", 700, "--warmup-seconds", 0.1, "--warmup-cap-seconds", 0.3,
    )  # fmt: skip
    kinds = [event["event"] for event in events if event["event"] != "heartbeat"]
    assert kinds[:3] == ["environment", "load", "warmup"]
    assert kinds[-3:] == ["memory", "telemetry", "end"]
    assert events[0]["preprocess"]["frame_px"] == [24, 32]
    assert events[0]["preprocess"]["resize"].split()[0] in ("cv2", "numpy")
    samples = {key: [] for key in ("pre_ns", "inference_ns", "post_ns", "end_to_end_ns")}
    for event in of_kind(events, "samples"):
        for key, values in samples.items():
            values.extend(event[key])
    pre, inference, post, whole = (np.array(values) for values in samples.values())
    assert len(whole) >= 700
    np.testing.assert_array_equal(pre + inference + post, whole)
    assert whole.min() > 0
    assert whole.sum() <= 1.01 * 1e9 * 60


@pytest.mark.parametrize(
    ("spoil", "kind", "text"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"x"), "artifact", "the sidecar says"),
        (lambda folder: (folder / "model.onnx").unlink(), "artifact", "model.onnx: cannot read"),
        (lambda folder: (folder / "edgekd.json").write_text("{"), "artifact", "cannot read the sidecar"),
        (lambda folder: _edit(folder, files={"../model.onnx": "0"}), "artifact", "is not a plain file name"),
        (lambda folder: _edit(folder, decode="anchors"), "artifact", "unknown kind 'anchors'"),
        (lambda folder: _edit(folder, decode="end2end"), "artifact", "needs outputs detections; the model has"),
        (lambda folder: _edit(folder, runtime="tflite"), "runtime", "unknown runtime 'tflite' (known: litert"),
        (lambda folder: _edit(folder, input_shape=[1, 3, 16, 8]), "pack", "takes (3, 16, 8)"),
        (lambda folder: (folder.parent / "pack.npy").write_bytes(b"x"), "pack", "cannot read the pack"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, archive, spoil, kind, text):
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    spoil(artifact)
    events, code, _ = run_agent(archive, "predict", "--artifact", artifact, "--pack", pack)
    assert (code, [event["event"] for event in events]) == (1, ["error"])
    assert events[0]["kind"] == kind
    assert text in events[0]["message"]
    assert "\n" not in events[0]["message"]


def _edit(folder, **changes):
    sidecar = json.loads((folder / "edgekd.json").read_text())
    (folder / "edgekd.json").write_text(json.dumps({**sidecar, **changes}))


def test_a_silent_provider_fallback_is_refused(tmp_path, archive):
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    events, _, _ = run_agent(
        archive, "predict", "--artifact", artifact, "--pack", pack, "--provider", "AzureExecutionProvider"
    )
    message = events[0]["message"]
    assert message.startswith("onnxruntime: asked for AzureExecutionProvider, but nodes of model.onnx would run on the")
    assert message.endswith("or list CPUExecutionProvider last to allow it and have them counted")


def test_an_agent_that_nobody_reads_ends_by_itself(tmp_path, archive):
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    command = [sys.executable, str(archive), "profile", "--artifact", str(artifact), "--pack", str(pack)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(300) == 1
        assert process.stderr.read() == b""


def test_a_fixed_batch_cannot_be_changed(tmp_path, archive):
    artifact, pack = write_artifact(tmp_path / "tiny", batch=2), write_pack(tmp_path)
    events, _, _ = run_agent(archive, "predict", "--artifact", artifact, "--pack", pack, "--batch", 4)
    assert events[0]["message"] == (
        "--batch 4: tiny has a fixed batch of 2; export it with 'batch: 4' or 'batch: dynamic', where its runtime takes"
        " that"
    )


def test_help_names_the_commands(archive):
    command = [sys.executable, "-I", str(archive), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    assert "predict" in shown
    assert "profile" in shown


@pytest.mark.parametrize("path", sorted(AGENT.rglob("*.py")), ids=lambda path: path.name)
def test_sources_say_their_licence(path):
    assert path.read_text(encoding="utf-8").startswith("# SPDX-License-Identifier: Apache-2.0\n")


def test_the_archive_is_named_by_its_content_and_reproducible(tmp_path):
    import hashlib

    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert first.name == f"edgekd-agent-{hashlib.sha256(first.read_bytes()).hexdigest()[:12]}.pyz"
    written = first.stat().st_mtime_ns
    assert build(tmp_path / "a").stat().st_mtime_ns == written
