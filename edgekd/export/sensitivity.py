"""Which layers of a detector suffer most from 8 bits: each is quantised alone, and what that does is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.export.graph_parts import Layer, network_ends
from edgekd.progress import progress
from edgekd.types import FloatArray

Quantize = Callable[[Iterable[str]], Any]


@dataclass(frozen=True)
class Sensitivity:
    """What one layer alone does to the result of the network.

    Attributes:
        noise: energy of the change over energy of the signal (its variance), where the network ends, mean of its ends;
            0 is no change, and 10 log10(1 / noise) the ratio in dB.
    """

    layer: Layer
    noise: float


def measure(path: Path, layers: Sequence[Layer], quantize: Quantize, batches: Sequence[Any]) -> list[Sensitivity]:
    """Sensitivities, the largest first; of equal ones the first in the graph.

    It is looked at where the network ends and decoding begins: class logits and box distances count alike there,
    whatever their units.

    Args:
        path: the float ONNX.
        quantize: an `onnx.ModelProto` in which the named nodes are quantised.
        batches: what the model takes.
    """
    import onnx

    model = onnx.load(path)
    ends = network_ends(model.graph)
    reference = _run(_ending_at(model, ends), batches)
    found = []
    with progress("sensitivity", len(layers)) as advance:
        for layer in layers:
            actual = _run(_ending_at(quantize(layer.nodes), ends), batches)
            found.append(Sensitivity(layer, noise(reference, actual)))
            advance()
    return sorted(found, key=lambda one: -one.noise)


def noise(reference: Sequence[FloatArray], actual: Sequence[FloatArray]) -> float:
    """Mean over tensors of E[(actual - reference)^2] / Var[reference]; a constant one counts its change alone."""
    shares = []
    for expected, given in zip(reference, actual, strict=True):
        change = float(np.mean(np.square(given.astype(np.float64) - expected)))
        shares.append(change / (float(np.var(expected.astype(np.float64))) or 1.0))
    return float(np.mean(shares))


def _ending_at(model: Any, names: Sequence[str]) -> Any:
    """A copy whose outputs are the named values."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return copy


def _run(model: Any, batches: Sequence[Any]) -> list[FloatArray]:
    """Each output over all batches, flat."""
    import onnxruntime

    import edgekd.agent.runtimes  # noqa: F401  (before the library: switches off what it would report to its vendor)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    results = [session.run(None, {name: batch}) for batch in batches]
    return [np.concatenate([part.reshape(-1) for part in parts]) for parts in zip(*results, strict=True)]
