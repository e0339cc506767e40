# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, List

import onnxruntime

from . import Model, Runtime
from . import onnxruntime_providers as providers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


_CPU_INFO = Path("/proc/cpuinfo")
_DTYPES = {"tensor(float16)": "float16", "tensor(uint8)": "uint8"}


class OnnxRuntime(Runtime):
    """A session on the asked providers, one operator at a time, on a fixed number of threads.

    Streams share it where its providers allow that: each brings the thread that calls, the pool adds the rest.

    Nodes that none of them takes make loading fail, unless the CPU is asked for, too; then `options` counts them.
    """

    name = "onnxruntime"
    default_providers = ("CPUExecutionProvider",)
    version = onnxruntime.__version__

    def __init__(self, model: Model) -> None:
        self._model = model
        self._shared = all(name in providers.CONCURRENT for name in model.providers)
        options = onnxruntime.SessionOptions()
        own_threads = model.providers[0] in providers.OWN_THREADS
        options.intra_op_num_threads = 1 if own_threads else _pool_threads(model, self._shared)
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        if own_threads:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        exact = model.precision == "int8" and _sums_overflow(_CPU_INFO)
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = _open(model, options)
        self.providers = _without_empty_cpu(self._session.get_providers(), model)
        self.options = {
            "intra_op_num_threads": options.intra_op_num_threads,
            "execution_mode": "sequential",
            "allow_spinning": "off" if own_threads else "default",
            "int8_sums": "exact, slower" if exact else "default",
            "providers": self._session.get_provider_options(),
            **(providers.nodes_by_provider(self._session) if len(model.providers) > 1 else {}),
        }
        self.output_names = [output.name for output in self._session.get_outputs()]
        model_input = self._session.get_inputs()[0]
        self._input_name = model_input.name
        self.input_dtype = _DTYPES.get(model_input.type, "float32")

    def run(self, batch: npt.NDArray[Any]) -> List[npt.NDArray[np.float32]]:
        """Outputs for a batch."""
        outputs: List[npt.NDArray[np.float32]] = self._session.run(self.output_names, {self._input_name: batch})
        return outputs

    def fork(self) -> OnnxRuntime:
        """The same session; one of its own where a provider cannot do two things at once."""
        return copy.copy(self) if self._shared else type(self)(self._model)


def _pool_threads(model: Model, shared: bool) -> int:
    """Of a session, the calling thread counted in: with all that call at once, `threads` run, and nothing more."""
    return max(model.threads - model.streams + 1, 1) if shared else model.threads_per_stream


def _open(model: Model, options: Any) -> Any:
    asked = providers.with_options(model)
    if providers.CPU not in model.providers:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if len(asked) > 1:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        return onnxruntime.InferenceSession(str(model.path), options, providers=asked)
    except Exception as error:
        if "fallback to CPU EP" in str(error):
            raise providers.fallback_refused(error, model) from error
        raise


def _sums_overflow(cpu_info: Path) -> bool:
    """Whether the fast 8-bit kernels would saturate: on x86 processors without VNNI, as far as they can be told."""
    try:
        text = cpu_info.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "sse4_1" in text and "vnni" not in text


def _without_empty_cpu(given: List[str], model: Model) -> List[str]:
    """A session always lists the CPU; where falling back to it was refused, nothing runs there."""
    return [name for name in given if name != providers.CPU or name in model.providers]
