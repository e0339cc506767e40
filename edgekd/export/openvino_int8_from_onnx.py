"""ONNX to OpenVINO IR with 8-bit weights and values, by NNCF, the library that the runtime's own authors quantise with.

What decodes boxes and scores stays float32: behind the last layers, 8 bits would be a grid of several pixels.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any
from unittest import mock

import edgekd.agent.runtimes  # noqa: F401  (before the libraries: switches off what they would report to their vendor)
from edgekd.export.artifacts import quiet
from edgekd.export.contract import Artifact, Job, Source, register
from edgekd.export.int8 import Plan, input_quantizer, plan, quantise
from edgekd.export.int8_options import NncfOptions
from edgekd.export.openvino_from_onnx import read_model, write_model
from edgekd.export.qdq import feeds

_STRUCTURE = ("Constant", "Parameter", "Result")


@register(
    "openvino-int8",
    source="onnx",
    target="openvino",
    runtime="openvino",
    precisions=("int8",),
    options_type=NncfOptions,
)
def export(source: Source | Artifact, job: Job, folder: Path) -> Artifact:
    """Write `model.xml`, `model.bin` and `quantization.json`.

    Raises:
        InputError: too few images to calibrate on, or an accuracy that `max_drop` does not allow.
    """
    assert isinstance(source, Artifact), "the step 'openvino-int8' starts from ONNX"
    with quiet():
        planned = plan("openvino-int8", source, job)

        def make(nodes: set[str], place: Path) -> Artifact:
            model = _quantised(planned, nodes, job.options)
            return write_model(model, source.sidecar, job.spec, place, "nncf")

        return quantise(job, planned, folder, make, simulated=input_quantizer(planned, folder))


def _quantised(plan: Plan, nodes: set[str], options: NncfOptions) -> Any:
    """An `openvino.Model` in which at most the named nodes of the ONNX are quantised."""
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    model = read_model(plan.source.model_path)
    batches = list(feeds(plan.images, plan.source.sidecar))
    presets = {"symmetric": nncf.QuantizationPreset.PERFORMANCE, "asymmetric": nncf.QuantizationPreset.MIXED}
    ranges = {"minmax": RangeEstimatorParametersSet.MINMAX, "mean": RangeEstimatorParametersSet.MEAN_MINMAX}
    with _alone():
        return nncf.quantize(
            model,
            nncf.Dataset(batches),
            preset=presets[options.activations],
            subset_size=len(batches),
            fast_bias_correction=options.bias_correction != "full",
            ignored_scope=nncf.IgnoredScope(names=_ignored(model, plan, nodes), validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=options.bias_correction == "off",
                activations_range_estimator_params=ranges[options.calibration],
            ),
        )


def _ignored(model: Any, plan: Plan, nodes: set[str]) -> list[str]:
    """Names of the operators that stay float: the decoding, and what is not to be quantised of the network.

    The runtime fuses and renames some operators as it reads the ONNX. A layer's keep the node's name, at least as the
    beginning; what is no layer, and leads to none, is decoding.
    """
    layer_nodes = {node for layer in plan.layers for node in layer.nodes}
    network: set[str] = set()
    operators = list(model.get_ordered_ops())
    for operator in reversed(operators):
        readers = {
            port.get_node().get_friendly_name() for out in operator.outputs() for port in out.get_target_inputs()
        }
        if _origin(operator, layer_nodes) or readers & network:
            network.add(operator.get_friendly_name())
    floats = plan.network - nodes
    return [
        operator.get_friendly_name()
        for operator in operators
        if operator.get_type_name() not in _STRUCTURE
        and (operator.get_friendly_name() not in network or _origin(operator, floats))
    ]


def _origin(operator: Any, nodes: Set[str]) -> bool:
    """Whether an operator comes from one of the named nodes of the ONNX: `a/Conv` or `a/Conv/WithoutBiases`."""
    name = operator.get_friendly_name()
    return name in nodes or name.rpartition("/")[0] in nodes


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let NNCF use the one core of this process (see `shared_core`), and keep its bars off standard output."""
    import openvino

    from edgekd.agent.runtimes.openvino_runtime import shared_core

    with mock.patch.object(openvino, "Core", shared_core), contextlib.redirect_stdout(io.StringIO()):
        yield
