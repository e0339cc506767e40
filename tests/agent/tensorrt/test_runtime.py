"""The runtime `tensorrt` on fakes of three versions: building, keeping, refusing, running."""

from __future__ import annotations

import gc
import io
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekd.agent.__main__ import parser
from edgekd.agent.predict import predict
from edgekd.agent.protocol import AgentError, Reader, Writer, unpack_array
from edgekd.testing.artifacts import expected_scores, make_images, write_artifact, write_pack
from tests.agent.tensorrt.fake_tensorrt import UNSUPPORTED, VERSIONS, read_plan, written_plan
from tests.agent.tensorrt.machine import V8, V10, V11, batch_of, refused


@pytest.mark.parametrize("version", VERSIONS)
def test_outputs_are_those_of_the_model(device, model, version):
    runtime = device.use(version).open(model)
    assert (runtime.version, runtime.providers, runtime.input_dtype) == (version, ["GPU"], "float32")
    images = batch_of(1)
    outputs = dict(zip(runtime.output_names, runtime.run(images), strict=True))
    np.testing.assert_allclose(outputs["scores"], expected_scores(make_images(1)), atol=1e-6)
    assert all(output.dtype == np.float32 for output in outputs.values())


@pytest.mark.parametrize(
    ("version", "precision", "typing", "network_flags", "flags"),
    [
        (V8, "fp32", "weak", 1, []),  # EXPLICIT_BATCH
        (V8, "fp16", "weak", 1, ["FP16"]),
        (V8, "int8", "weak", 1, ["INT8"]),
        (V10, "fp32", "strong", 2, []),  # STRONGLY_TYPED
        (V10, "fp16", "strong", 2, []),
        (V10, "int8", "strong", 2, []),
        (V11, "fp16", "strong", 0, []),
        (V11, "int8", "strong", 0, []),
    ],
)
def test_each_version_gets_its_own_flags_and_none_computes_in_tf32(
    device, model, version, precision, typing, network_flags, flags
):
    runtime = device.use(version).open(model, precision)
    header = device.header()
    assert (header["network_flags"], header["flags"]) == (network_flags, flags)
    assert runtime.options["typing"] == typing


def test_options_of_the_recipe_reach_the_builder(device, dynamic):
    shapes = {"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 8, 8]}
    device.open(
        dynamic, shapes=shapes, workspace_mb=512, optimization_level=4, version_compatible=True, tf32=True,
        timing_cache=False, builder="python", input_name="images",
    )  # fmt: skip
    header = device.header()
    assert header["profiles"] == [{"images": list(shapes.values())}]
    assert (header["workspace"], header["level"], header["timings"]) == (512 << 20, 4, None)
    assert header["flags"] == ["DISABLE_TIMING_CACHE", "TF32", "VERSION_COMPATIBLE"]


def test_a_second_opening_builds_nothing(device, model):
    first = device.open(model)
    second = device.open(model)
    assert (first.options["engine"], second.options["engine"], device.world.builds) == ("built", "cached", 1)
    assert first.build_ms > 0
    assert second.build_ms is None
    assert second.options["engine_sha256"] == first.options["engine_sha256"]
    assert second.options["cache"] == str(device.cache)
    assert not list(device.cache.glob(".*"))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("version", lambda device, path: device.use(V11).open(path)),
        ("gpu", lambda device, path: device.use(V10, name=b"Xavier").open(path)),
        ("sm_count", lambda device, path: device.use(V10, sm_count=8).open(path)),
        ("precision", lambda device, path: device.open(path, "fp16")),
        ("flags", lambda device, path: device.open(path, workspace_mb=64)),
        ("model", lambda device, path: device.open(write_artifact(path.parent.parent / "b", batch=2) / "model.onnx")),
        ("l4t", lambda device, path: _with(device, path, "l4t_release", "36.4.3")),
        ("power mode", lambda device, path: _with(device, path, "power_mode", "15W")),
    ],
)
def test_the_key_changes_with_all_that_an_engine_is_bound_to(device, model, what, change):
    device.open(model)
    assert change(device, model).options["engine"] == "built", what
    assert len(device.plans()) == 2


def _with(device, path, name, value):
    from edgekd.agent import tegra

    device._monkeypatch.setattr(tegra, name, lambda: value)
    return device.open(path)


def test_a_damaged_or_foreign_engine_in_the_cache_is_built_again(device, model, capfd):
    device.open(model)
    (plan,) = device.plans()
    whole = plan.read_bytes()
    plan.write_bytes(whole[:-1])
    assert device.open(model).options["engine"] == "built again"
    assert read_plan(plan.read_bytes())[1] == model.read_bytes()
    assert "changed or is not whole; building it again" in capfd.readouterr().err

    from edgekd.agent.tensorrt import cache

    header, content = read_plan(whole)
    cache.save(device.cache, plan.stem, written_plan({**header, "version": "10.0.1"}, content), {})
    assert device.open(model).options["engine"] == "built again"
    assert "expecting library version 10.3.0 got 10.0.1" in capfd.readouterr().err
    assert device.open(model).options["engine"] == "cached"


@pytest.mark.parametrize(
    ("version", "text"),
    [(V8, "Version tag does not match"), (V10, "expecting library version 10.3.0 got 9.3.0"), (V11, "got 9.3.0")],
)
def test_a_given_engine_of_another_version_is_refused(device, model, tmp_path, version, text):
    plan = tmp_path / "model.engine"
    plan.write_bytes(written_plan({"version": "9.3.0"}, model.read_bytes()))
    message = refused(device.use(version), plan)
    assert message.startswith(f"model.engine: TensorRT {version} on this device cannot read the engine (")
    assert text in message
    assert message.endswith("export the ONNX with a tensorrt target, it is built here")


def test_a_given_engine_of_this_version_runs(device, model, tmp_path):
    plan = tmp_path / "model.engine"
    plan.write_bytes(written_plan({"version": V10}, model.read_bytes()))
    runtime = device.open(plan)
    assert (runtime.options["engine"], device.world.builds) == ("given", 0)
    np.testing.assert_allclose(runtime.run(batch_of(1))[1], expected_scores(make_images(1)), atol=1e-6)


def test_timings_are_kept_for_the_next_build_and_dropped_if_they_are_of_another_device(device, model, dynamic):
    shapes = {"min": [1, 3, 8, 8], "opt": [1, 3, 8, 8], "max": [1, 3, 8, 8]}
    device.open(model)
    (timings,) = device.cache.glob("timings-10.3.0-*.cache")
    assert timings.read_bytes() == b"measured;"
    device.open(dynamic, shapes=shapes)
    assert timings.read_bytes() == b"measured;measured;"
    timings.write_bytes(b"other device")
    device.open(model, workspace_mb=1)
    assert timings.read_bytes() == b"measured;"


@pytest.mark.parametrize(
    ("version", "where"),
    [(V8, "node 1"), (V10, "node 'coin' (Bernoulli)"), (V11, "node 'coin' (Bernoulli)")],
)
def test_an_unsupported_operator_is_named(device, tmp_path, version, where):
    path = tmp_path / "coins.onnx"
    nodes = [helper.make_node("Identity", ["images"], ["same"]),
             helper.make_node(UNSUPPORTED, ["same"], ["boxes"], name="coin")]  # fmt: skip
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("images", "boxes")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "coins", values[:1], values[1:])), path)
    message = refused(device.use(version), path)
    assert message.startswith(f"coins.onnx: TensorRT {version} does not take the graph: {where}: ")
    assert "No importer registered for op: Bernoulli" in message
    assert message.endswith("or run an ONNX target with onnxruntime on this device")
    assert not device.plans()


def test_what_the_builder_says_is_in_the_error(device, model):
    message = refused(device, model, optimization_level=0)
    assert (
        message == "model.onnx: TensorRT 10.3.0 cannot build it: 10: Could not find any implementation for node pooled."
    )


@pytest.mark.parametrize("version", ["9.3.0", "12.0.0.1", "8.5.2"])
def test_a_version_that_is_not_known_is_refused(device, model, version):
    device.world.module.__version__ = version
    message = refused(device, model)
    assert message.startswith(f"TensorRT {version} is not known to this agent (known: 8.6, 10, 11); install one of")


def test_a_static_engine_takes_one_size(device, model):
    runtime = device.open(model)
    with pytest.raises(AgentError) as caught:
        runtime.run(np.zeros((1, 3, 16, 8), np.float32))
    assert caught.value.message == (
        "model.onnx: asked to run (1, 3, 16, 8), but its engine takes exactly (1, 3, 8, 8); export at that size, or "
        "with size or batch: dynamic and options.tensorrt.shapes that include it"
    )


def test_a_dynamic_engine_takes_what_it_was_built_for(device, dynamic):
    shapes = {"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [3, 3, 8, 8]}
    runtime = device.open(dynamic, shapes=shapes)
    for count in (2, 1, 3):
        scores = runtime.run(batch_of(count))[1]
        np.testing.assert_allclose(scores, expected_scores(make_images(count)), atol=1e-6)
    with pytest.raises(AgentError, match=r"takes \(1, 3, 8, 8\) to \(3, 3, 8, 8\); export"):
        runtime.run(batch_of(4))


def test_one_inference_is_two_kinds_of_copies_on_one_stream_and_one_wait(device, model):
    runtime = device.open(model)
    images = runtime.input_array((1, 3, 8, 8))
    images[...] = batch_of(1)
    boxes, scores = runtime.run(images)
    assert device.cudart.copies == [(1, images.nbytes, 0x5000), (2, boxes.nbytes, 0x5000), (2, scores.nbytes, 0x5000)]
    assert device.cudart.waits == 1
    np.testing.assert_allclose(scores, expected_scores(make_images(1)), atol=1e-6)


def test_streams_share_the_engine_and_nothing_else(device, model):
    first = device.open(model)
    second = first.fork()
    one, other = batch_of(2)[:1], batch_of(2)[1:]
    found = [runtime.run(batch) for runtime, batch in ((first, one), (second, other))]
    for outputs, image in zip(found, (0, 1), strict=True):  # the second run has not overwritten what the first gave
        np.testing.assert_allclose(outputs[1][0], expected_scores(make_images(2))[image], atol=1e-6)
    assert first._engine is second._engine
    assert first._context is not second._context
    assert first._stream != second._stream
    assert len(device.plans()) == 1
    del first, second, found, outputs
    gc.collect()
    assert not device.cudart.device
    assert not device.cudart.streams


@pytest.mark.parametrize("version", VERSIONS)
def test_before_version_10_dynamic_shapes_have_one_stream(device, dynamic, version):
    runtime = device.use(version).open(dynamic, shapes={"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 8, 8]})
    if version != V8:
        assert runtime.fork().run(batch_of(2))[1].shape[0] == 2
        return
    with pytest.raises(AgentError, match="runs engines with dynamic shapes in one stream alone; export with a fixed"):
        runtime.fork()


def test_everything_is_given_back(device, dynamic):
    shapes = {"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [3, 3, 8, 8]}
    runtime = device.open(dynamic, shapes=shapes)
    runtime.run(batch_of(2))
    kept = runtime.run(batch_of(3))[1]
    assert len(device.cudart.device) == 3
    del runtime
    gc.collect()
    assert (device.cudart.device, device.cudart.streams) == ({}, set())
    np.testing.assert_allclose(kept, expected_scores(make_images(3)), atol=1e-6)  # views keep what they look at
    del kept
    gc.collect()
    assert device.cudart.pinned == {}


def test_no_gpu_and_no_memory_are_said_in_one_line(device, model):
    assert refused(device.use(V10, gpus=0), model) == (
        "CUDA: cudaGetDeviceCount: no CUDA-capable device is detected (error 100)"
    )
    runtime = device.use(V10, memory_bytes=800).open(model)
    with pytest.raises(AgentError, match=r"^CUDA: cudaMalloc: out of memory \(error 2\)$"):
        runtime.run(batch_of(1))


def test_a_driver_that_is_too_old(device, model, monkeypatch):
    def none(logger):
        logger.log(logger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")  # word for word

    monkeypatch.setattr(device.world.module, "Builder", none)
    assert refused(device, model) == (
        "TensorRT 10.3.0 does not start on this device: CUDA initialization failure with error: 35; the driver has to "
        "be of its CUDA version or newer"
    )


def test_a_recipe_of_another_agent_is_refused(device, model):
    assert refused(device, model, sparsity=True) == (
        "edgekd.json: build.sparsity: unknown to this agent; use the agent of the edgekd that exported it"
    )
    assert "build.builder: 'tf' (known: python, trtexec)" in refused(device, model, builder="tf")


def test_a_cache_that_cannot_be_written_is_found_before_the_build(device, model, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEKD_CACHE", str(tmp_path / "file"))
    assert refused(device, model).endswith("; set EDGEKD_CACHE to a folder that can be written")
    assert device.world.builds == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_the_agent_predicts_with_it(device, tmp_path, version):
    device.use(version)
    artifact, pack = write_artifact(tmp_path / "tiny", batch=2), write_pack(tmp_path, 5)
    sidecar = json.loads((artifact / "edgekd.json").read_text())
    build = {"builder": "python", "input_name": "images", "workspace_mb": None}
    (artifact / "edgekd.json").write_text(json.dumps({**sidecar, "runtime": "tensorrt", "build": build}))
    stream = io.BytesIO()
    writer = Writer(stream)
    arguments = ["predict", "--artifact", str(artifact), "--pack", str(pack), "--conf", "0.45", "--threads", "2"]
    predict(parser().parse_args(arguments), writer)
    writer.end()
    reader = Reader()
    events = [reader.feed(line) for line in stream.getvalue().splitlines(keepends=True)]
    assert reader.complete
    environment, load = events[0], events[1]
    assert environment["runtime"]["options"]["gpu"]["name"] == "Orin"
    assert load["build_ms"] > 0
    assert load["load_ms"] > 0
    assert device.world.builds == 1  # the second lane found it in the cache
    found = [unpack_array(event["scores"]) for event in events if event["event"] == "detections"]
    for scores, expected in zip(found, expected_scores(make_images(5)), strict=True):
        np.testing.assert_allclose(scores, np.sort(expected[expected > 0.45])[::-1], atol=1e-6)
