"""Quantisation after training on a detector of three layers, with an accuracy that is made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from edgekd.atomic import read_json
from edgekd.errors import InputError
from edgekd.export import contract, graph_parts, int8, qdq, sensitivity, targets
from edgekd.export.contract import Artifact, Job, Material, TargetSpec
from edgekd.export.int8_options import QdqOptions
from tests.export import tiny_onnx
from tests.export.tiny_onnx import DECODING, LAYERS

Accuracy = Callable[[Artifact], float]


def job(step: str, accuracy: Accuracy = lambda _: 0.5, **options: Any) -> Job:
    runtime = "openvino" if step.startswith("openvino") else "onnxruntime"
    spec = TargetSpec(
        name="mine", steps=("onnx", step), runtime=runtime, precision="int8", tolerance={"min_matched": 0.5}
    )
    given = {"calibration_images": 8, "sensitivity_images": 2, "max_float_share": 1.0, **options}
    found = contract.step(step).options_type.model_validate(given)
    return Job(spec, found, Material(lambda count, _: tiny_onnx.images(count), accuracy, lambda: 0.5))


def export(step: str, folder: Path, **options: Any) -> Artifact:
    source = tiny_onnx.artifact(folder / "source")
    (folder / "made").mkdir()
    return contract.step(step).export(source, job(step, **options), folder / "made")


def kinds(model: Any) -> dict[str, str]:
    """Output value -> kind of the node that makes it."""
    return {name: node.op_type for node in model.graph.node for name in node.output}


def quantised_nodes(model: Any) -> set[str]:
    """Names of the nodes all of whose float inputs come from a DequantizeLinear."""
    made_by = kinds(model)
    return {
        node.name
        for node in model.graph.node
        if "Linear" not in node.op_type and made_by.get(node.input[0]) == "DequantizeLinear"
    }


def float_layers(artifact: Artifact) -> set[str]:
    """Convolutions of an ONNX or an IR whose weights are not 8 bits."""
    if artifact.sidecar.runtime == "onnxruntime":
        model = onnx.load(artifact.model_path)
        made_by = kinds(model)
        return {n.name for n in model.graph.node if n.op_type == "Conv" and made_by.get(n.input[1]) is None}
    from edgekd.agent.runtimes.openvino_runtime import shared_core

    operators = shared_core().read_model(artifact.model_path).get_ops()
    convolutions = [one for one in operators if one.get_type_name() == "Convolution"]
    return {
        one.get_friendly_name().removesuffix("/WithoutBiases")
        for one in convolutions
        if one.input_value(1).get_node().get_type_name() == "Constant"
    }


class TestGraph:
    def test_layers_carry_their_activation(self) -> None:
        found = graph_parts.layers(tiny_onnx.model(0).graph)
        assert [layer.name for layer in found] == list(LAYERS)
        assert [layer.nodes[1:] for layer in found] == [("stem/Sigmoid", "stem/Mul"), ("body/Relu",), ()]

    def test_the_network_ends_where_decoding_begins(self) -> None:
        graph = tiny_onnx.model(0).graph
        assert {node.name for node in graph.node} - graph_parts.network_nodes(graph) == set(DECODING)
        assert graph_parts.network_ends(graph) == ("raw",)

    def test_what_lies_between_layers_is_quantised_only_if_all_that_read_it_are(self) -> None:
        """a and b are added; c reads the sum alone, d reads it joined with a."""
        node = onnx.helper.make_node
        nodes = [
            node("Conv", ["images", "wa"], ["a"], name="a"),
            node("Conv", ["images", "wb"], ["b"], name="b"),
            node("Add", ["a", "b"], ["sum"], name="sum"),
            node("Concat", ["sum", "a"], ["joined"], name="joined", axis=1),
            node("Conv", ["sum", "wc"], ["c"], name="c"),
            node("Conv", ["joined", "wd"], ["d"], name="d"),
        ]
        weights = [onnx.numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), f"w{name}") for name in "abcd"]
        graph = onnx.helper.make_graph(nodes, "between", [], [], weights)
        assert graph_parts.fed_layers(graph) == {"sum": {"c", "d"}, "joined": {"d"}}
        network = frozenset(graph_parts.network_nodes(graph))
        source = Artifact(Path(), sidecar=None)  # type: ignore[arg-type]
        found = int8.Plan(
            "onnx-int8",
            source,
            tiny_onnx.images(1),
            graph_parts.layers(graph),
            network,
            graph_parts.fed_layers(graph),
            (),
        )
        assert found.quantised([]) == {"a", "b", "sum", "joined", "c", "d"}
        assert found.quantised(["a"]) == {"b", "sum", "joined", "c", "d"}
        assert found.quantised(["c"]) == {"a", "b", "joined", "d"}
        assert found.quantised(["d"]) == {"a", "b", "c"}


class TestOnnx:
    def test_every_layer_is_quantised_and_the_decoding_is_not(self, tmp_path: Path) -> None:
        made = export("onnx-int8", tmp_path)
        model = onnx.load(made.model_path)
        found = quantised_nodes(model)
        assert set(LAYERS) | {"stem/Sigmoid", "stem/Mul"} <= found
        weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name.endswith("_quantized")}
        assert {weights[f"w{index}_quantized"].data_type for index in range(3)} == {onnx.TensorProto.INT8}
        scales = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
        assert [scales[f"w{index}_scale"] for index in range(3)] == [[8], [16], [6]]  # one per output channel
        decoding = [node for node in model.graph.node if node.name in DECODING]
        assert len(decoding) == len(DECODING)
        assert not {node.name for node in decoding[1:]} & found  # but for the first, which reads the last layer
        assert (made.sidecar.precision, made.sidecar.target) == ("int8", "mine")
        assert made.sidecar.tools["onnxruntime"]

    def test_ignored_layers_stay_float_and_are_written_down(self, tmp_path: Path) -> None:
        made = export("onnx-int8", tmp_path, ignore=["stem/*"])
        assert float_layers(made) == {"stem/Conv"}
        assert not {"stem/Conv", "stem/Sigmoid", "stem/Mul"} & quantised_nodes(onnx.load(made.model_path))
        record = read_json(made.folder / "quantization.json")
        assert [(row["layer"], row["float"]) for row in record["layers"][-1:]] == [("stem/Conv", "ignore")]
        assert record["float_layers"] == 1

    def test_an_idle_pattern_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"mine: options.onnx-int8.ignore: neck/\* names no layer of the student"):
            export("onnx-int8", tmp_path, ignore=["neck/*", "stem/*"])

    def test_for_tensorrt_inputs_and_weights_are_symmetric_pairs_and_biases_stay_float(self, tmp_path: Path) -> None:
        made = export("onnx-int8", tmp_path, scheme="trt")
        graph = onnx.load(made.model_path).graph
        made_by = kinds(onnx.load(made.model_path))
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Conv":
                assert [made_by.get(name) for name in node.input] == ["DequantizeLinear", "DequantizeLinear", None]
            if node.op_type == "QuantizeLinear":
                assert constants[node.input[2]].dtype == np.int8
                assert not constants[node.input[2]].any()
        assert {node.name for node in graph.node if made_by.get(node.input[0]) == "DequantizeLinear"} - set(
            node.name for node in graph.node if "Linear" in node.op_type
        ) == set(LAYERS)

    @pytest.mark.parametrize("method", ["percentile", "entropy"])
    def test_other_ranges_are_narrower(self, tmp_path: Path, method: str) -> None:
        def scale(folder: Path, **options: Any) -> float:
            model = onnx.load(export("onnx-int8", folder, **options).model_path)
            found = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
            return float(found["rectified_scale"])

        narrow = scale(tmp_path / "narrow", calibration=method, percentile=99.0)
        assert 0 < narrow < scale(tmp_path / "minmax", calibration="minmax")

    def test_twice_the_same_bytes_and_nothing_on_standard_output(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        first, second = (export("onnx-int8", tmp_path / name) for name in ("a", "b"))
        assert first.sidecar.files == second.sidecar.files
        assert capfd.readouterr().out == ""

    def test_onnxruntime_computes_in_8_bits(self, tmp_path: Path) -> None:
        import onnxruntime

        made = export("onnx-int8", tmp_path)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(made.model_path), options, providers=["CPUExecutionProvider"])
        ran = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
        assert ran.count("QLinearConv") == 3
        assert "Conv" not in ran

    def test_what_is_quantised_already_is_refused(self, tmp_path: Path) -> None:
        made = export("onnx-int8", tmp_path)
        with pytest.raises(InputError, match="starts from a float ONNX, and this one is quantised already"):
            contract.step("onnx-int8").export(made, job("onnx-int8"), tmp_path)

    def test_without_images_it_is_refused(self, tmp_path: Path) -> None:
        spec = job("onnx-int8").spec
        with pytest.raises(InputError, match="mine: needs images of the train split; export it from a run directory"):
            contract.step("onnx-int8").export(tiny_onnx.artifact(tmp_path), Job(spec, QdqOptions()), tmp_path)


class TestOpenVino:
    def test_layers_run_in_8_bits_and_the_decoding_in_float(self, tmp_path: Path) -> None:
        from edgekd.agent.runtimes.openvino_runtime import shared_core

        made = export("openvino-int8", tmp_path)
        assert float_layers(made) == set()
        compiled = shared_core().compile_model(str(made.model_path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        ran = [operator.get_rt_info() for operator in compiled.get_runtime_model().get_ops()]
        formats = [(info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for info in ran]
        convolutions = [number for kind, number in formats if kind == "Convolution"]
        assert len(convolutions) == 3
        assert set(convolutions) <= {"u8", "i8"}
        assert {number for kind, number in formats if kind in ("Reshape", "Transpose", "StridedSlice")} <= {"f32"}
        assert made.sidecar.tools["nncf"]
        assert (made.sidecar.precision, made.sidecar.runtime) == ("int8", "openvino")

    def test_ignored_layers_stay_float(self, tmp_path: Path) -> None:
        assert float_layers(export("openvino-int8", tmp_path, ignore=["body/*", "head/*"])) == {
            "body/Conv",
            "head/Conv",
        }

    def test_twice_the_same_bytes_and_nothing_on_standard_output(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        first, second = (export("openvino-int8", tmp_path / name) for name in ("a", "b"))
        assert first.sidecar.files == second.sidecar.files
        assert capfd.readouterr().out == ""


class TestFallback:
    @pytest.mark.parametrize(("step", "worst"), [("onnx-int8", "stem/Conv"), ("openvino-int8", "body/Conv")])
    def test_the_most_sensitive_layers_go_back(self, tmp_path: Path, step: str, worst: str) -> None:
        """The made-up AP wants two layers in float, whichever they are; sensitivity says which.

        One channel between stem and body is a thousand times the others. ONNX Runtime's form quantises what the stem
        gives, OpenVINO's what the body takes.
        """
        seen: list[set[str]] = []

        def accuracy(artifact: Artifact) -> float:
            seen.append(float_layers(artifact))
            return 0.5 - 0.1 * max(0, 2 - len(seen[-1]))

        made = export(step, tmp_path, accuracy=accuracy)
        record = read_json(made.folder / "quantization.json")
        order = [row["layer"] for row in record["layers"]]
        assert order[0] == worst
        assert [row["noise"] for row in record["layers"]] == sorted(
            (r["noise"] for r in record["layers"]), reverse=True
        )
        assert seen == [set(), set(order[:1]), set(order[:2])]
        assert float_layers(made) == set(order[:2])
        assert [row["float"] for row in record["layers"]] == ["max_drop", "max_drop", None]
        assert (record["ap_float"], record["ap"], record["ap_drop"]) == (0.5, 0.5, 0.0)
        assert record["trials"] == [
            {"float_layers": 0, "ap": 0.3}, {"float_layers": 1, "ap": 0.4}, {"float_layers": 2, "ap": 0.5}
        ]  # fmt: skip
        assert (record["decoding"], record["calibration_images"]) == (list(DECODING), 8)
        expected = {"edgekd.json", "quantization.json", *made.sidecar.files}
        assert {path.name for path in made.folder.iterdir()} == expected  # no trial is left behind

    def test_without_a_limit_and_a_ranking_every_layer_is_quantised(self, tmp_path: Path) -> None:
        made = export("onnx-int8", tmp_path, accuracy=lambda _: 0.1, max_drop=None, sensitivity_images=0)
        record = read_json(made.folder / "quantization.json")
        assert [(row["layer"], row["noise"], row["float"]) for row in record["layers"]] == [
            (name, None, None) for name in LAYERS
        ]
        assert (record["ap"], record["ap_drop"]) == (0.1, 0.4)
        with pytest.raises(ValidationError, match="leaves max_drop without an order of layers; set max_drop: null"):
            job("onnx-int8", sensitivity_images=0)

    def test_the_record_of_an_earlier_step_stays_with_the_artifact(self, tmp_path: Path) -> None:
        first, last = tmp_path / "0-onnx-int8", tmp_path / "1-engine"
        for folder in (first, last):
            folder.mkdir()
        (first / "quantization.json").write_text("{}")
        targets._carry("quantization.json", tmp_path, last)
        assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")] == [
            "1-engine/quantization.json"
        ]

    def test_what_cannot_be_reached(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"drop is 0\.1000, with 0 of 3 layers in float; train the student"):
            export("onnx-int8", tmp_path, accuracy=lambda _: 0.4, max_float_share=0.4)


class TestSensitivity:
    def test_noise_by_hand(self) -> None:
        signal = np.array([0, 2, 4, 6], np.float32)  # variance 5
        assert sensitivity.noise([signal], [signal + 1]) == pytest.approx(0.2)
        assert sensitivity.noise([signal, signal], [signal + 1, signal]) == pytest.approx(0.1)
        assert sensitivity.noise([np.ones(3, np.float32)], [np.full(3, 1.5, np.float32)]) == pytest.approx(0.25)

    @pytest.mark.parametrize("weak", [1, 2])
    def test_the_weak_layer_comes_first(self, tmp_path: Path, weak: int) -> None:
        source = tiny_onnx.artifact(tmp_path, weak)
        images = tiny_onnx.images(4)
        quantizer = qdq.Quantizer(source.model_path, images, source.sidecar, QdqOptions(scheme="trt"), tmp_path)
        layers = graph_parts.layers(onnx.load(source.model_path).graph)
        found = sensitivity.measure(
            source.model_path, layers, quantizer.quantize, list(qdq.feeds(images, source.sidecar))
        )
        assert found[0].layer.name == LAYERS[weak]
        assert found[0].noise > 5 * found[1].noise
