# SPDX-License-Identifier: Apache-2.0
"""OpenVINO."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, List, Optional

import openvino

from ..protocol import AgentError
from . import Model, Runtime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


_DEVICES = ("CPU", "GPU", "NPU")
_DTYPES = {"f16": "float16", "u8": "uint8"}


@functools.lru_cache(maxsize=None)
def shared_core() -> Any:
    """The one core of this process.

    The CPU plugin of each core gives the thread that loads it a stack for signal handlers, and restores the one it
    found when it goes. Of two cores that do not go in reverse order, the second restores a stack that the first has
    already unmapped, and the next signal with a handler (the end of a child, say) kills the process.
    """
    return openvino.Core()


class OpenVino(Runtime):
    """One stream, one request, latency first; or as many streams as are asked for, with a request each.

    An artifact is computed in its own precision, or a higher one: left alone, the plugin takes bf16 on processors that
    have it, and three digits are lost without a word. `options` records what it is. The format asked for is that of
    the float layers: quantised ones are computed in 8 bits whatever it is.
    """

    name = "openvino"
    default_providers = ("CPU",)
    version = openvino.__version__

    def __init__(self, model: Model) -> None:
        core = shared_core()
        device = _device(core, model)
        config = {
            "NUM_STREAMS": str(model.streams),
            "INFERENCE_NUM_THREADS": str(max(model.threads, model.streams)),
            "INFERENCE_PRECISION_HINT": _number_format(core, device, model),
        }
        supported = set(core.get_property(device, "SUPPORTED_PROPERTIES"))
        config = {name: value for name, value in config.items() if name in supported}
        compiled: Any = core.compile_model(
            str(model.path), device, {**config, **model.provider_options.get(device, {})}
        )
        self._compiled = compiled
        self._request: Any = compiled.create_infer_request()
        self._infer = _infer_here if model.streams == 1 else _infer_in_stream
        self._bound: Optional[npt.NDArray[Any]] = None
        self.providers = [_as_asked(name, device) for name in compiled.get_property("EXECUTION_DEVICES")]
        self.options = {name: _plain(compiled.get_property(name)) for name in (*config, "PERFORMANCE_HINT")}
        self.options["FULL_DEVICE_NAME"] = str(core.get_property(device, "FULL_DEVICE_NAME"))
        self.output_names = [next(iter(output.get_names()), "") for output in compiled.outputs]
        self.input_dtype = _DTYPES.get(compiled.inputs[0].get_element_type().get_type_name(), "float32")
        self._outputs = range(len(compiled.outputs))

    def run(self, batch: npt.NDArray[Any]) -> List[npt.NDArray[np.float32]]:
        """Outputs for a batch, as views of the request's memory; the input is bound once, and shared."""
        if self._bound is not batch:
            self._request.set_input_tensor(openvino.Tensor(batch, shared_memory=True))
            self._bound = batch
        self._infer(self._request)
        return [self._request.get_output_tensor(index).data for index in self._outputs]

    def fork(self) -> OpenVino:
        """Another request to the same compiled model."""
        other = copy.copy(self)
        other._request, other._bound = self._compiled.create_infer_request(), None
        return other


def _infer_here(request: Any) -> None:
    """In the thread that calls."""
    request.infer(share_outputs=True)


def _infer_in_stream(request: Any) -> None:
    """In whichever of the plugin's streams is free, on the threads that it keeps for it."""
    request.start_async()
    request.wait()


def _device(core: Any, model: Model) -> str:
    """The one device to compile for.

    Raises:
        AgentError: not one device, one that chooses by itself, or one that is not there.
    """
    asked = ", ".join(model.providers)
    if len(model.providers) != 1 or model.providers[0].split(".")[0] not in _DEVICES:
        raise AgentError(
            "runtime",
            f"openvino: asked for {asked}: give one of {', '.join(_DEVICES)} (or GPU.1, ...); AUTO, HETERO and MULTI"
            " choose by themselves, and what was measured would not be known",
        )
    device = model.providers[0]
    present = list(core.available_devices)
    if not any(name == device or name.split(".")[0] == device for name in present):
        raise AgentError(
            "runtime",
            f"openvino: asked for {device}, got none: this device has {', '.join(present) or 'none'}; install the"
            " driver, or choose another",
        )
    return device


def _number_format(core: Any, device: str, model: Model) -> str:
    """What to compute in.

    Raises:
        AgentError: the device has no format as precise as the artifact's.
    """
    known = _capabilities(core, device)
    if "FP16" in known and (model.precision == "fp16" or ("FP32" not in known and model.precision == "int8")):
        return "f16"
    if "FP32" not in known:
        raise AgentError(
            "runtime",
            f"openvino: {device} computes in {', '.join(known)}, not in float32; use an fp16 or int8 target there",
        )
    return "f32"


def _as_asked(name: str, device: str) -> str:
    """`GPU.0` and `NPU.3720` are what `GPU` and `NPU` meant."""
    return device if name.partition(".")[0] == device else name


def _capabilities(core: Any, device: str) -> List[str]:
    """Number formats that a device computes in by itself, e.g. FP32, FP16, BF16, INT8."""
    return list(core.get_property(device, "OPTIMIZATION_CAPABILITIES"))


def _plain(value: Any) -> str:
    """A property as text: element types and enums have short names of their own."""
    if isinstance(value, openvino.Type):
        return str(value.get_type_name())
    return str(getattr(value, "name", value))
