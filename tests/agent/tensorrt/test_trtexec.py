"""The builder `trtexec`, and the accelerator DLA, on fakes."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.agent.protocol import AgentError
from edgekd.agent.runtimes import open_model
from edgekd.agent.tensorrt import trtexec
from edgekd.testing.artifacts import expected_scores, make_images
from tests.agent.tensorrt import fake_trtexec
from tests.agent.tensorrt.machine import V8, V10, V11, batch_of, refused

TRTEXEC = {V8: "8.6.1", V10: "10.3.0", V11: "11.4.0"}


class TestAccelerator:
    def test_layers_on_the_gpu_are_listed(self, device, model):
        runtime = device.use(V10, dla_cores=2).open(model, "fp16", dla_core=1, allow_gpu_fallback=True)
        assert runtime.providers == ["DLA1", "GPU"]
        header = device.header()
        assert (header["dla_core"], header["network_flags"], header["flags"]) == (1, 0, ["FP16", "GPU_FALLBACK"])
        assert (runtime.options["dla_layers"], runtime.options["gpu_fallback_layers"]) == (1, ["SHUFFLE: by_class"])
        again = device.open(model, "fp16", dla_core=1, allow_gpu_fallback=True)
        assert (again.options["engine"], again.options["gpu_fallback_layers"]) == ("cached", ["SHUFFLE: by_class"])

    def test_a_model_that_is_not_on_it_at_all_is_refused(self, device, model):
        device.use(V10, dla_cores=1).world.dla_layers = []
        message = refused(device, model, precision="fp16", dla_core=0, allow_gpu_fallback=True)
        assert message == ("model.onnx: no layer runs on DLA 0: all went to the GPU; export without dla_core")
        assert not device.plans()

    def test_a_device_without_it_is_refused(self, device, model):
        message = refused(device.use(V11), model, precision="fp16", dla_core=0)
        assert message.startswith("dla_core: 0, but TensorRT 11.4.0.106 sees 0 DLA cores on this device")

    def test_asked_to_run_elsewhere(self, device, model):
        with pytest.raises(AgentError, match="asked for DLA0, got GPU"):
            open_model("tensorrt", model, 1, "fp16", ["DLA0"])


class TestTrtexec:
    @pytest.fixture
    def install(self, tmp_path, monkeypatch):
        def put(version, behaviour="builds", full=None):
            folder = tmp_path / f"bin-{version}-{behaviour}"
            log = fake_trtexec.install(folder, TRTEXEC[version], full or version, behaviour)
            monkeypatch.setenv("PATH", fake_trtexec.on_path(folder))
            return log

        return put

    @pytest.mark.parametrize(
        ("version", "precision", "typed"),
        [
            (V8, "fp32", {}), (V8, "fp16", {"fp16": ""}), (V8, "int8", {"int8": ""}),
            (V10, "fp16", {"stronglyTyped": ""}), (V10, "int8", {"stronglyTyped": ""}), (V11, "fp16", {}),
        ],
    )  # fmt: skip
    def test_each_version_takes_its_flags(self, device, model, install, version, precision, typed):
        log = install(version)
        runtime = device.use(version).open(model, precision, builder="trtexec")
        given = fake_trtexec.given(log)
        assert given.pop("onnx") == str(model)
        assert given.pop("saveEngine").endswith("model.plan")
        assert given.pop("timingCacheFile")
        assert given == {"skipInference": "", "noTF32": "", **typed}
        assert (runtime.options["engine"], device.world.builds) == ("built", 0)
        np.testing.assert_allclose(runtime.run(batch_of(1))[1], expected_scores(make_images(1)), atol=1e-6)
        (timings,) = device.cache.glob("timings-*.cache")
        assert timings.read_bytes() == b"measured;"

    def test_all_flags(self, device, dynamic, install):
        log = install(V10)
        shapes = {"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 8, 8]}
        runtime = device.open(
            dynamic, "fp16", builder="trtexec", shapes=shapes, workspace_mb=512, optimization_level=4, tf32=True,
            version_compatible=True, timing_cache=False,
        )  # fmt: skip
        given = fake_trtexec.given(log)
        del given["onnx"], given["saveEngine"]
        assert given == {
            "skipInference": "", "stronglyTyped": "", "memPoolSize": "workspace:512", "builderOptimizationLevel": "4",
            "versionCompatible": "", "noBuilderCache": "", "minShapes": "images:1x3x8x8",
            "optShapes": "images:2x3x8x8", "maxShapes": "images:4x3x8x8",
        }  # fmt: skip
        np.testing.assert_allclose(runtime.run(batch_of(4))[1], expected_scores(make_images(4)), atol=1e-6)

    def test_the_accelerator(self, device, model, install):
        log = install(V10)
        device.use(V10, dla_cores=1)
        runtime = device.open(model, "fp16", builder="trtexec", dla_core=0, allow_gpu_fallback=True)
        given = fake_trtexec.given(log)
        assert (given["useDLACore"], given["allowGPUFallback"], given["fp16"]) == ("0", "", "")
        assert "stronglyTyped" not in given
        assert runtime.options["gpu_fallback_layers"] == ["SHUFFLE: by_class"]

    def test_its_errors_come_through(self, device, model, install):
        install(V10, "fails")
        assert refused(device, model, builder="trtexec") == (
            "model.onnx: trtexec 10.3.0 cannot build it (exit code 1): ModelImporter.cpp:949: ERROR: no importer for "
            "op: Bernoulli; Engine could not be created from network"
        )

    def test_a_success_without_an_engine_is_none(self, device, model, install):
        install(V10, "lies")
        assert "cannot build it (exit code 0): it gave no reason" in refused(device, model, builder="trtexec")
        assert not device.plans()

    def test_one_of_another_version_is_refused(self, device, model, install):
        install(V8)
        message = refused(device, model, builder="trtexec")
        assert "is of TensorRT 8.6.1, the library that runs the engine is 10.3.0: an engine is bound to its" in message

    def test_none_is_refused(self, device, model, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(trtexec, "_BESIDE_JETPACK", str(tmp_path))
        assert refused(device, model, builder="trtexec").startswith(
            "builder: trtexec, but it is neither on PATH nor in"
        )
