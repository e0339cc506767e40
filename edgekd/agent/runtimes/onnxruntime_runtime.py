# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

import onnxruntime

from . import Model, Runtime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class OnnxRuntime(Runtime):
    """A session on the asked providers, one operator at a time, on a fixed number of threads."""

    name = "onnxruntime"
    default_providers = ("CPUExecutionProvider",)
    version = onnxruntime.__version__

    def __init__(self, model: Model) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = model.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(model.path), options, providers=list(model.providers))
        self.providers = list(self._session.get_providers())
        self.options = {
            "intra_op_num_threads": model.threads,
            "execution_mode": "sequential",
            "allow_spinning": "default",
        }
        self.output_names = [output.name for output in self._session.get_outputs()]
        model_input = self._session.get_inputs()[0]
        self._input_name = model_input.name
        self.input_dtype = "float16" if model_input.type == "tensor(float16)" else "float32"

    def run(self, batch: npt.NDArray[Any]) -> List[npt.NDArray[np.float32]]:
        """Outputs for (B, C, H, W)."""
        outputs: List[npt.NDArray[np.float32]] = self._session.run(self.output_names, {self._input_name: batch})
        return outputs
