# SPDX-License-Identifier: Apache-2.0
"""OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Sequence

import openvino

from . import Runtime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class OpenVino(Runtime):
    """One stream, one request, latency first.

    An fp32 artifact is computed in fp32: some processors would take bf16 on their own. An fp16 artifact leaves the
    choice to the plugin; `options` records it.
    """

    name = "openvino"
    default_providers = ("CPU",)
    version = openvino.__version__

    def __init__(self, model_path: Path, threads: int, precision: str, providers: Sequence[str]) -> None:
        config = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}
        if precision == "fp32":
            config["INFERENCE_PRECISION_HINT"] = "f32"
        core = openvino.Core()
        compiled: Any = core.compile_model(str(model_path), ",".join(providers), config)
        self._request: Any = compiled.create_infer_request()
        self._bound: Optional[npt.NDArray[Any]] = None
        self.providers = list(compiled.get_property("EXECUTION_DEVICES"))
        names = ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "PERFORMANCE_HINT")
        self.options = {name: _plain(compiled.get_property(name)) for name in names}
        self.output_names = [next(iter(output.get_names()), "") for output in compiled.outputs]
        self.input_dtype = "float16" if compiled.inputs[0].get_element_type() == openvino.Type.f16 else "float32"
        self._outputs = range(len(compiled.outputs))

    def run(self, batch: npt.NDArray[Any]) -> List[npt.NDArray[np.float32]]:
        """Outputs for (B, C, H, W), as views of the request's memory; the input is bound once, and shared."""
        if self._bound is not batch:
            self._request.set_input_tensor(openvino.Tensor(batch, shared_memory=True))
            self._bound = batch
        self._request.infer(share_outputs=True)
        return [self._request.get_output_tensor(index).data for index in self._outputs]


def _plain(value: Any) -> str:
    """A property as text: element types and enums have short names of their own."""
    if isinstance(value, openvino.Type):
        return str(value.get_type_name())
    return str(getattr(value, "name", value))
