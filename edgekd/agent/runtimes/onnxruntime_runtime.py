# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Sequence

import onnxruntime

from . import Runtime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class OnnxRuntime(Runtime):
    """A session on the asked providers, one operator at a time, on a fixed number of threads."""

    name = "onnxruntime"
    default_providers = ("CPUExecutionProvider",)
    version = onnxruntime.__version__

    def __init__(self, model_path: Path, threads: int, precision: str, providers: Sequence[str]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(model_path), options, providers=list(providers))
        self.providers = list(self._session.get_providers())
        self.options = {"intra_op_num_threads": threads, "execution_mode": "sequential", "allow_spinning": "default"}
        self.output_names = [output.name for output in self._session.get_outputs()]
        model_input = self._session.get_inputs()[0]
        self._input_name = model_input.name
        self.input_dtype = "float16" if model_input.type == "tensor(float16)" else "float32"

    def run(self, batch: npt.NDArray[Any]) -> List[npt.NDArray[np.float32]]:
        """Outputs for (B, C, H, W)."""
        outputs: List[npt.NDArray[np.float32]] = self._session.run(self.output_names, {self._input_name: batch})
        return outputs
