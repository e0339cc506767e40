"""Quantises ONNX graphs with ONNX Runtime's tools: ranges are found once, and serve any choice of layers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.export.contract import Sidecar
from edgekd.export.inputs import model_input
from edgekd.export.int8_options import QdqOptions
from edgekd.progress import progress
from edgekd.types import ByteArray

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_BETWEEN = (
    "Sigmoid", "Mul", "Add", "Relu", "LeakyRelu", "Clip", "HardSigmoid", "Concat", "Split", "Slice", "Resize",
    "MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Transpose", "Squeeze", "Unsqueeze",
)  # fmt: skip
_AT_ONCE = 8  # images per call of the library; for histograms one, as it keeps all values of a call in memory


class Quantizer:
    """One float ONNX with the range of each of its values.

    Args:
        path: the float ONNX.
        images: (n, H, W, C) uint8 to find the ranges on.
        sidecar: of the float ONNX: how it takes images.
        options: of the step.
        folder: for a temporary file.
    """

    def __init__(self, path: Path, images: ByteArray, sidecar: Sidecar, options: QdqOptions, folder: Path) -> None:
        import onnx

        self._path = path
        self._model = onnx.load(path)
        self._options = options
        self._operators = _LAYERS if options.scheme == "trt" or options.operators == "layers" else _LAYERS + _BETWEEN
        self._ranges = self._calibrate(images, sidecar, folder / ".calibration.onnx")

    def quantize(self, nodes: Iterable[str]) -> Any:
        """An `onnx.ModelProto` with QuantizeLinear and DequantizeLinear around the named nodes, as far as they can."""
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        kinds = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        wanted = set(nodes)
        named = [node.name for node in model.graph.node if node.name in wanted and node.op_type in self._operators]
        if not named:  # an empty list would mean all of them
            return model
        options = self._options
        activations = options.activations or ("int8" if options.scheme == "trt" else "uint8")
        quantizer = QDQQuantizer(
            model,
            options.per_channel,
            False,  # 7-bit weights; the agent asks for exact arithmetic instead on processors that would overflow
            kinds[options.weights],
            kinds[activations],
            self._ranges,
            named,
            [],
            list(self._operators),
            {
                **(_TRT if options.scheme == "trt" else {"ActivationSymmetric": activations == "int8"}),
                "QDQKeepRemovableActivations": True,  # runtimes fuse them, and values keep their names
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        made: Any = quantizer.model.model
        _sort_constants(made.graph)
        return made

    def _calibrate(self, images: ByteArray, sidecar: Sidecar, temporary: Path) -> Any:
        from onnxruntime.quantization import CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        method = {
            "minmax": CalibrationMethod.MinMax,
            "percentile": CalibrationMethod.Percentile,
            "entropy": CalibrationMethod.Entropy,
        }[self._options.calibration]
        at_once = _AT_ONCE if self._options.calibration == "minmax" else 1
        extra = {"percentile": self._options.percentile, "symmetric": False}
        try:
            calibrator = create_calibrator(
                self._path,
                list(self._operators),
                augmented_model_path=str(temporary),
                calibrate_method=method,
                extra_options={} if self._options.calibration == "minmax" else extra,
            )
            with progress("calibrate", len(images)) as advance, contextlib.redirect_stdout(io.StringIO()):
                for start in range(0, len(images), at_once):
                    part = images[start : start + at_once]
                    calibrator.collect_data(_Reader({sidecar.input_name: batch} for batch in feeds(part, sidecar)))
                    advance(len(part))
                return calibrator.compute_data()
        finally:
            temporary.unlink(missing_ok=True)


# TensorRT fuses what lies between layers by itself, and wants each layer's inputs quantised for it alone, weights as
# float constants behind a pair of their own, biases and results in float.
_TRT = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": list(_LAYERS),
}


def feeds(images: ByteArray, sidecar: Sidecar) -> Iterator[Any]:
    """Images (n, H, W, C) as batches that a model takes, the last one filled up by repeating."""
    size = sidecar.input_shape[0] or 1
    for start in range(0, len(images), size):
        part = images[start : start + size]
        yield model_input(np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)]), sidecar)


class _Reader:
    """The library's form of an iterator."""

    def __init__(self, batches: Iterator[dict[str, Any]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Any] | None:
        """The next batch by input name, or None."""
        return next(self._batches, None)


def _sort_constants(graph: Any) -> None:
    """The library adds them in the order of a set: the same model shall give the same bytes."""
    constants = sorted(graph.initializer, key=lambda tensor: str(tensor.name))
    del graph.initializer[:]
    graph.initializer.extend(constants)
