# SPDX-License-Identifier: Apache-2.0
"""OpenVINO."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, List, Optional

import openvino

from . import Model, Runtime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@functools.lru_cache(maxsize=None)
def shared_core() -> Any:
    """The one core of this process.

    The CPU plugin of each core gives the thread that loads it a stack for signal handlers, and restores the one it
    found when it goes. Of two cores that do not go in reverse order, the second restores a stack that the first has
    already unmapped, and the next signal with a handler (the end of a child, say) kills the process.
    """
    return openvino.Core()


class OpenVino(Runtime):
    """One stream, one request, latency first.

    An artifact is computed in its own precision, or a higher one: left alone, the plugin takes bf16 on processors that
    have it, and three digits are lost without a word. `options` records what it is.
    """

    name = "openvino"
    default_providers = ("CPU",)
    version = openvino.__version__

    def __init__(self, model: Model) -> None:
        core = shared_core()
        half = model.precision == "fp16" and all("FP16" in _capabilities(core, device) for device in model.providers)
        config = {
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(model.threads),
            "INFERENCE_PRECISION_HINT": "f16" if half else "f32",
        }
        compiled: Any = core.compile_model(str(model.path), ",".join(model.providers), config)
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


def _capabilities(core: Any, device: str) -> List[str]:
    """Number formats that a device computes in by itself, e.g. FP32, FP16, BF16, INT8."""
    return list(core.get_property(device, "OPTIMIZATION_CAPABILITIES"))


def _plain(value: Any) -> str:
    """A property as text: element types and enums have short names of their own."""
    if isinstance(value, openvino.Type):
        return str(value.get_type_name())
    return str(getattr(value, "name", value))
