# SPDX-License-Identifier: Apache-2.0
"""LiteRT (TensorFlow Lite), on the CPU: with XNNPACK, or with the library's own kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

import ai_edge_litert
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from ..protocol import AgentError
from . import Model, Runtime

if TYPE_CHECKING:
    import numpy.typing as npt

    Convert = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]

_RESOLVERS = {
    ("XNNPACK",): OpResolverType.AUTO,
    ("CPU",): OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


class LiteRt(Runtime):
    """One interpreter. `options` tells how many parts of the graph XNNPACK took; if none, that is no XNNPACK run."""

    name = "litert"
    default_providers = ("XNNPACK",)
    version = getattr(ai_edge_litert, "__version__", "unknown")

    def __init__(self, model: Model) -> None:
        if model.providers not in _RESOLVERS:
            known = " or ".join(", ".join(names) for names in _RESOLVERS)
            raise AgentError("runtime", f"litert runs on {known}, not on {', '.join(model.providers)}")
        self._model = model
        self._interpreter: Any = Interpreter(
            model_path=str(model.path),
            num_threads=model.threads_per_stream,
            experimental_op_resolver_type=_RESOLVERS[model.providers],
        )
        self._interpreter.allocate_tensors()
        parts = _delegated(self._interpreter)
        self.providers = ["XNNPACK"] if parts else ["CPU"]
        self.options = {"num_threads": model.threads_per_stream, "delegated_parts": parts}
        inputs, outputs = _ends(self._interpreter)
        (given,) = inputs.values()
        self.input_dtype = np.dtype(given["dtype"]).name
        if self.input_dtype not in ("float32", "uint8"):
            raise AgentError("artifact", f"{model.path.name} takes {self.input_dtype}; export it with a float32 input")
        self._input = given["index"]
        self.output_names = list(outputs)
        self._outputs: List[Tuple[int, Convert]] = [(one["index"], _to_float(one)) for one in outputs.values()]

    def run(self, batch: npt.NDArray[Any]) -> List[npt.NDArray[np.float32]]:
        """Outputs for (1, H, W, C), those of 8 bits as the numbers that they stand for."""
        self._interpreter.set_tensor(self._input, batch)
        self._interpreter.invoke()
        return [convert(self._interpreter.get_tensor(index)) for index, convert in self._outputs]

    def fork(self) -> LiteRt:
        """An interpreter of its own, on threads of its own."""
        return type(self)(self._model)


def _ends(interpreter: Any) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """In- and outputs by name: those of the signature, or of the tensors where the model has none."""
    signatures = list(interpreter.get_signature_list())
    if signatures:
        runner = interpreter.get_signature_runner(signatures[0])
        return runner.get_input_details(), runner.get_output_details()
    given, made = interpreter.get_input_details(), interpreter.get_output_details()
    return {one["name"]: one for one in given}, {one["name"]: one for one in made}


def _delegated(interpreter: Any) -> int:
    """How many parts of the graph a delegate runs."""
    return sum(operator["op_name"] == "DELEGATE" for operator in interpreter._get_ops_details())


def _to_float(detail: Dict[str, Any]) -> Convert:
    scale, zero_point = detail["quantization"]
    if not scale:
        return lambda values: values.astype(np.float32, copy=False)
    step, zero = np.float32(scale), np.float32(zero_point)
    return lambda values: (values.astype(np.float32) - zero) * step
