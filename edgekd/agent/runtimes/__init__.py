# SPDX-License-Identifier: Apache-2.0
"""Runtimes by name. Each is one file, imported only when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type

from ..protocol import AgentError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Importing either library writes an identifier into the user's home folder and sends a usage event, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # reads as "not installed"

_CLASSES = {
    "onnxruntime": ("onnxruntime_runtime", "OnnxRuntime"),
    "openvino": ("openvino_runtime", "OpenVino"),
    "ncnn": ("ncnn_runtime", "Ncnn"),
    "litert": ("litert_runtime", "LiteRt"),
    "tensorrt": ("tensorrt_runtime", "TensorRt"),
}


class Model(NamedTuple):
    """What a runtime is asked to open.

    Attributes:
        path: the first file of the artifact.
        threads: of inference, of all streams together.
        precision: of the artifact: fp32, fp16 or int8.
        providers: where it has to run, e.g. `("CPUExecutionProvider",)`.
        build: what the sidecar says for runtimes that build their engine on the device.
        provider_options: settings per provider, beside or instead of the runtime's own.
        streams: inferences at once, each in a runtime of its own that `fork` gave.
    """

    path: Path
    threads: int
    precision: str
    providers: Tuple[str, ...]
    build: Mapping[str, Any] = {}
    provider_options: Mapping[str, Mapping[str, str]] = {}
    streams: int = 1

    @property
    def threads_per_stream(self) -> int:
        """For runtimes whose streams do not share their threads."""
        return max(self.threads // self.streams, 1)


class Runtime:
    """One model, loaded and ready: what every runtime offers.

    Attributes:
        name: as in the sidecar.
        default_providers: where it runs unless told otherwise.
        version: of the library.
        providers: where it does run.
        options: settings of the library that are in force.
        output_names: in the order of `run`'s result.
        input_dtype: `float32`, `float16` or `uint8`.
        build_ms: how long building the engine took, where it was built now.
    """

    name = ""
    default_providers: Tuple[str, ...] = ()
    version: str
    providers: List[str]
    options: Dict[str, Any]
    output_names: List[str]
    input_dtype: str
    build_ms: Optional[float] = None

    def __init__(self, model: Model) -> None:
        raise NotImplementedError

    @classmethod
    def unusable(cls) -> Optional[str]:
        """Why no model can run on this device, whatever it is; None if one can."""
        return None

    @classmethod
    def providers_of(cls, build: Mapping[str, Any]) -> Tuple[str, ...]:
        """Where a model runs unless told otherwise."""
        return cls.default_providers

    def input_array(self, shape: Tuple[int, ...]) -> npt.NDArray[Any]:
        """A zeroed array for inputs of a shape, in the memory that `run` takes fastest."""
        import numpy

        return numpy.zeros(shape, self.input_dtype)

    def run(self, batch: npt.NDArray[Any]) -> List[npt.NDArray[np.float32]]:
        """Outputs for a batch in the model's layout, valid until the next call. Fastest on one array."""
        raise NotImplementedError

    def fork(self) -> Runtime:
        """Another one on the same model, that may run in another thread at the same time.

        Raises:
            AgentError: this runtime has no way to do so.
        """
        raise AgentError("runtime", f"{self.name}: runs one stream at a time; measure it with --streams 1")

    def refuse_fallback(self, asked: Sequence[str]) -> None:
        """Raise an AgentError unless the model runs exactly where it was asked to run."""
        if list(self.providers) != list(asked):
            raise AgentError(
                "runtime",
                f"{self.name}: asked for {', '.join(asked)}, got {', '.join(self.providers) or 'none'};"
                " a silent fallback would be measured as if it were the device",
            )


def runtime_class(name: str) -> Type[Runtime]:
    """The class of a runtime.

    Raises:
        AgentError: unknown, or not installed on this device.
    """
    if name not in _CLASSES:
        raise AgentError("runtime", f"unknown runtime '{name}' (known: {', '.join(sorted(_CLASSES))})")
    module_name, class_name = _CLASSES[name]
    try:
        module = importlib.import_module("." + module_name, __name__)
    except ImportError as error:
        raise AgentError(
            "runtime", f"{name} is not usable on this device ({error}); install it for this Python"
        ) from error
    found: Type[Runtime] = getattr(module, class_name)
    return found


def runtime_names() -> List[str]:
    """Of all runtimes that there is a class for, installed or not."""
    return sorted(_CLASSES)


def unusable(name: str) -> Optional[str]:
    """Why a runtime cannot be used on this device, in a few words; None if it can."""
    try:
        return runtime_class(name).unusable()
    except AgentError as error:
        return error.message


def installed(name: str) -> bool:
    """Whether the runtime's library is there, in order or not."""
    try:
        runtime_class(name)
    except AgentError as error:
        return not isinstance(error.__cause__, ModuleNotFoundError)
    return True


def open_model(
    name: str,
    model_path: Path,
    threads: int,
    precision: str,
    providers: Optional[Sequence[str]] = None,
    build: Optional[Mapping[str, Any]] = None,
    provider_options: Optional[Mapping[str, Mapping[str, str]]] = None,
    streams: int = 1,
) -> Runtime:
    """Load a model with a runtime.

    Args:
        name: of the runtime; the others as in `Model`.

    Raises:
        AgentError: the runtime is missing, cannot read the model, or would run it elsewhere.
    """
    found = runtime_class(name)
    asked = tuple(providers or found.providers_of(build or {}))
    try:
        runtime = found(Model(model_path, threads, precision, asked, build or {}, provider_options or {}, streams))
    except AgentError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise AgentError("runtime", f"{name} cannot load {model_path.name}: {reason}") from error
    runtime.refuse_fallback(asked)
    return runtime
