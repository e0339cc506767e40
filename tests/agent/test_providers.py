"""Where ONNX Runtime and OpenVINO run a model: where they were asked to, or not at all."""

import types

import onnxruntime
import pytest

from edgekd.agent.protocol import AgentError
from edgekd.agent.runtimes import Model, onnxruntime_providers, open_model, openvino_runtime
from edgekd.testing.artifacts import write_artifact

CPU = "CPUExecutionProvider"


@pytest.fixture(scope="module")
def onnx_model(tmp_path_factory):
    return write_artifact(tmp_path_factory.mktemp("onnx") / "tiny") / "model.onnx"


@pytest.fixture(scope="module")
def openvino_model(tmp_path_factory):
    return write_artifact(tmp_path_factory.mktemp("openvino") / "tiny", runtime="openvino") / "model.xml"


def refused(name, path, *providers, precision="fp32", **options):
    with pytest.raises(AgentError) as caught:
        open_model(name, path, 1, precision, providers, provider_options=options)
    assert "\n" not in caught.value.message
    return caught.value.message


class TestOnnxRuntime:
    def test_a_provider_that_this_build_lacks(self, onnx_model):
        assert refused("onnxruntime", onnx_model, "CUDAExecutionProvider") == (
            f"onnxruntime: asked for CUDAExecutionProvider, got none: onnxruntime {onnxruntime.__version__} on this "
            f"device has {', '.join(onnxruntime.get_available_providers())}; install the build that has it (e.g. "
            "onnxruntime-gpu, onnxruntime-qnn), or choose another provider"
        )

    def test_nodes_that_would_fall_back_to_the_cpu(self, onnx_model):
        message = refused("onnxruntime", onnx_model, "AzureExecutionProvider")
        assert message.startswith(
            "onnxruntime: asked for AzureExecutionProvider, but nodes of model.onnx would run on the CPU ("
        )
        assert "explicitly disabled" in message

    def test_nodes_on_the_cpu_are_counted_where_they_are_allowed(self, onnx_model):
        runtime = open_model("onnxruntime", onnx_model, 1, "fp32", ["AzureExecutionProvider", CPU])
        assert runtime.providers == ["AzureExecutionProvider", CPU]
        assert set(runtime.options["nodes"]) == {CPU}
        shown = runtime.options["cpu_nodes"]
        assert len(shown) == 6
        assert shown[5] == f"and {runtime.options['nodes'][CPU] - 5} more"
        assert any("(AveragePool)" in name for name in shown[:5])

    def test_the_cpu_alone_counts_nothing_and_lists_itself(self, onnx_model):
        runtime = open_model("onnxruntime", onnx_model, 1, "fp32")
        assert runtime.providers == [CPU]
        assert "nodes" not in runtime.options

    def test_options_of_a_provider_that_is_not_asked_for(self, onnx_model):
        message = refused("onnxruntime", onnx_model, CPU, QNNExecutionProvider={"backend_path": "x"})
        assert message == f"onnxruntime: options for QNNExecutionProvider, but asked for {CPU}"

    @pytest.mark.parametrize(
        ("name", "precision", "expected"),
        [
            ("CUDAExecutionProvider", "fp32", {"use_tf32": "0"}),
            ("XnnpackExecutionProvider", "fp32", {"intra_op_num_threads": "3"}),
            ("QNNExecutionProvider", "int8", {"backend_path": "mine.so", "htp_performance_mode": "burst"}),
            ("QNNExecutionProvider", "fp16", {"backend_type": "gpu", "htp_performance_mode": "burst"}),
            ("TensorrtExecutionProvider", "fp16", {
                "trt_engine_cache_enable": "1", "trt_engine_cache_path": "/cache/onnxruntime-tensorrt",
                "trt_timing_cache_enable": "1", "trt_timing_cache_path": "/cache/onnxruntime-tensorrt",
                "trt_fp16_enable": "1",
            }),
        ],
    )  # fmt: skip
    def test_what_each_provider_is_told(self, monkeypatch, tmp_path, name, precision, expected):
        monkeypatch.setenv("EDGEKD_CACHE", "/cache")
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [name, CPU])
        kind = {"int8": {"backend_path": "mine.so"}, "fp16": {"backend_type": "gpu"}}
        own = {"QNNExecutionProvider": kind[precision]} if name.startswith("QNN") else {}
        model = Model(tmp_path / "model.onnx", 3, precision, (name, CPU), provider_options=own)
        assert onnxruntime_providers.with_options(model) == [(name, expected), (CPU, {})]

    def test_xnnpack_computes_on_threads_of_its_own(self, monkeypatch, onnx_model):
        seen = {}

        class Session:
            def __init__(self, path, options, providers):
                seen.update(threads=options.intra_op_num_threads, providers=providers)
                seen["spinning"] = options.get_session_config_entry("session.intra_op.allow_spinning")
                seen["refused"] = options.get_session_config_entry("session.disable_cpu_ep_fallback")

            def get_providers(self):
                return ["XnnpackExecutionProvider", CPU]  # the CPU is listed even where it has nothing to do

            def get_provider_options(self):
                return {}

            def get_outputs(self):
                return [types.SimpleNamespace(name="boxes")]

            def get_inputs(self):
                return [types.SimpleNamespace(name="images", type="tensor(float)")]

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["XnnpackExecutionProvider", CPU])
        runtime = open_model("onnxruntime", onnx_model, 4, "fp32", ["XnnpackExecutionProvider"])
        assert runtime.providers == ["XnnpackExecutionProvider"]
        assert seen == {
            "threads": 1, "spinning": "0", "refused": "1",
            "providers": [("XnnpackExecutionProvider", {"intra_op_num_threads": "4"})],
        }  # fmt: skip

    def test_a_provider_that_is_there_and_does_not_work(self, monkeypatch, onnx_model):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", CPU])
        real = (
            onnxruntime.InferenceSession
        )  # as ONNX Runtime does where a library of CUDA is missing: a warning, no CUDA
        monkeypatch.setattr(
            onnxruntime, "InferenceSession", lambda path, options, providers: real(path, options, providers=[CPU])
        )
        message = refused("onnxruntime", onnx_model, "CUDAExecutionProvider", CPU)
        assert message.startswith(f"onnxruntime: asked for CUDAExecutionProvider, {CPU}, got {CPU};")


class TestOpenVino:
    @pytest.mark.parametrize("asked", [["AUTO"], ["HETERO:GPU,CPU"], ["CPU", "GPU"], ["MULTI:CPU"], ["cpu"]])
    def test_devices_that_choose_by_themselves(self, openvino_model, asked):
        assert refused("openvino", openvino_model, *asked) == (
            f"openvino: asked for {', '.join(asked)}: give one of CPU, GPU, NPU (or GPU.1, ...); AUTO, HETERO and "
            "MULTI choose by themselves, and what was measured would not be known"
        )

    def test_a_device_that_is_not_there(self, openvino_model, monkeypatch):
        core = FakeCore({"CPU": ["FP32"]})
        monkeypatch.setattr(openvino_runtime, "shared_core", lambda: core)
        assert refused("openvino", openvino_model, "NPU") == (
            "openvino: asked for NPU, got none: this device has CPU; install the driver, or choose another"
        )

    @pytest.mark.parametrize(
        ("device", "precision", "expected"),
        [
            ("GPU", "fp32", {"NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}),
            ("GPU.0", "fp16", {"NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f16"}),
            ("GPU", "int8", {"NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}),
            ("NPU", "fp16", {"INFERENCE_PRECISION_HINT": "f16"}),
            ("NPU", "int8", {"INFERENCE_PRECISION_HINT": "f16"}),
        ],
    )
    def test_each_device_gets_what_it_supports(self, monkeypatch, openvino_model, device, precision, expected):
        core = FakeCore({"GPU.0": ["FP32", "FP16", "INT8"], "NPU": ["FP16", "INT8"]})
        monkeypatch.setattr(openvino_runtime, "shared_core", lambda: core)
        runtime = open_model("openvino", openvino_model, 2, precision, [device])
        assert runtime.providers == [device]
        assert (core.device, core.config) == (device, expected)

    def test_a_device_without_float32_refuses_a_float32_artifact(self, monkeypatch, openvino_model):
        core = FakeCore({"NPU": ["FP16", "INT8"]})
        monkeypatch.setattr(openvino_runtime, "shared_core", lambda: core)
        assert refused("openvino", openvino_model, "NPU") == (
            "openvino: NPU computes in FP16, INT8, not in float32; use an fp16 or int8 target there"
        )

    def test_options_reach_the_library(self, openvino_model):
        options = {"CPU": {"PERFORMANCE_HINT": "THROUGHPUT"}}
        runtime = open_model("openvino", openvino_model, 1, "fp32", ["CPU"], provider_options=options)
        assert runtime.options["PERFORMANCE_HINT"] == "THROUGHPUT"


class FakeCore:
    """Answers as the plugins of other machines do; compiles for the CPU."""

    def __init__(self, capabilities):
        self._supported = {"GPU": ["NUM_STREAMS", "INFERENCE_PRECISION_HINT"], "NPU": ["INFERENCE_PRECISION_HINT"]}
        self._capabilities = capabilities
        self.available_devices = list(capabilities)

    def get_property(self, device, name):
        kind = device.partition(".")[0]
        whole = next(known for known in self._capabilities if known.partition(".")[0] == kind)
        return {
            "OPTIMIZATION_CAPABILITIES": self._capabilities[whole],
            "SUPPORTED_PROPERTIES": self._supported.get(kind, []),
            "FULL_DEVICE_NAME": whole,
        }[name]

    def compile_model(self, path, device, config):
        import openvino

        self.device, self.config = device, dict(config)
        compiled = openvino_runtime_core().compile_model(path, "CPU", {})
        whole = next(known for known in self._capabilities if known.partition(".")[0] == device.partition(".")[0])
        values = {"EXECUTION_DEVICES": [whole], "PERFORMANCE_HINT": openvino.properties.hint.PerformanceMode.LATENCY}
        return types.SimpleNamespace(
            create_infer_request=compiled.create_infer_request, inputs=compiled.inputs, outputs=compiled.outputs,
            get_property=lambda name: {**values, **config}[name],
        )  # fmt: skip


openvino_runtime_core = openvino_runtime.shared_core  # the real one: tests put the fake in its place
