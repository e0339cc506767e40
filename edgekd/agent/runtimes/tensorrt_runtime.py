# SPDX-License-Identifier: Apache-2.0
"""TensorRT. The engine is built on this device and kept; inputs and outputs go through page-locked memory."""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np
import tensorrt

from ..cuda import Cuda
from ..protocol import AgentError
from ..tensorrt.dialects import dialect_of, numbers
from ..tensorrt.engine import open_engine
from ..tensorrt.recipe import read
from . import Model, Runtime

if TYPE_CHECKING:
    import numpy.typing as npt

# By name of `DataType`: the library's own table fails with numpy from 1.24 on in 8.6.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


class _Tensor(NamedTuple):
    """One input or output: page-locked array on the host, address on the device."""

    host: npt.NDArray[Any]
    address: int


class TensorRt(Runtime):
    """One engine; a context, a CUDA stream and memory of its own per stream of inferences."""

    name = "tensorrt"
    default_providers = ("GPU",)
    version = tensorrt.__version__

    def __init__(self, model: Model) -> None:
        recipe = read(model.build, model.precision)
        self._model_name = model.path.name
        self._cuda = Cuda()
        gpu = self._cuda.gpu()
        self._opened = open_engine(tensorrt, gpu, model.path, recipe)
        self._engine: Any = self._opened.engine
        self.build_ms = self._opened.build_ms
        self.providers = list(recipe.providers)
        self.options = {**self._opened.options, "gpu": gpu._asdict()}
        self._input_name, self.output_names = self._names()
        self.input_dtype = self._dtype(self._input_name)
        self._begin()

    def _begin(self) -> None:
        """What no two inferences at once can share."""
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            free_mb = self._cuda.memory_bytes()[0] >> 20
            raise AgentError("runtime", f"tensorrt: no room for {self._model_name} in the {free_mb} MB of free memory")
        self._stream = self._cuda.stream()
        self._shape: Tuple[int, ...] = ()
        self._tensors: Dict[str, _Tensor] = {}
        self._addresses: List[int] = []
        # Not at exit: the driver may be gone by then, and the process gives everything back anyway.
        weakref.finalize(self, _release, self._cuda, self._stream, self._addresses).atexit = False

    def fork(self) -> TensorRt:
        """Another context of the same engine.

        Raises:
            AgentError: before version 10, a range of shapes can be in the hands of one context alone.
        """
        if -1 in tuple(self._engine.get_tensor_shape(self._input_name)) and numbers(self.version) < (10,):
            raise AgentError(
                "artifact",
                f"{self._model_name}: TensorRT {self.version} runs engines with dynamic shapes in one stream alone;"
                " export with a fixed size and batch",
            )
        other = copy.copy(self)
        other._begin()
        return other

    @classmethod
    def unusable(cls) -> Optional[str]:
        """No CUDA, no GPU, or a version of TensorRT that is not known."""
        try:
            dialect_of(cls.version)
            Cuda()
        except AgentError as error:
            return error.message
        return None

    @classmethod
    def providers_of(cls, build: Mapping[str, Any]) -> Tuple[str, ...]:
        """Where the recipe puts the engine."""
        return read(build, "").providers

    def input_array(self, shape: Tuple[int, ...]) -> npt.NDArray[Any]:
        """The page-locked input itself: what is written there needs no further copy on the host."""
        self._bind(shape)
        return self._tensors[self._input_name].host

    def run(self, batch: npt.NDArray[Any]) -> List[npt.NDArray[np.float32]]:
        """Outputs for (B, C, H, W), in page-locked memory that the next call overwrites."""
        self._bind(batch.shape)
        given = self._tensors[self._input_name]
        if batch is not given.host:
            np.copyto(given.host, batch)
        self._cuda.to_device(given.address, given.host, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise AgentError("runtime", f"tensorrt: {self._model_name}: {self._opened.record.shown()}")
        outputs = [self._tensors[name] for name in self.output_names]
        for output in outputs:
            self._cuda.to_host(output.host, output.address, self._stream)
        self._cuda.synchronize(self._stream)
        return [output.host.astype(np.float32, copy=False) for output in outputs]

    def _names(self) -> Tuple[str, List[str]]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
        if len(inputs) != 1:
            raise AgentError("artifact", f"{self._model_name}: has {len(inputs)} inputs ({', '.join(inputs)}), not one")
        return inputs[0], [name for name in names if name not in inputs]

    def _dtype(self, name: str) -> str:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise AgentError("artifact", f"{self._model_name}: '{name}' is {kind}, which numpy lacks")
        return _DTYPES[kind]

    def _bind(self, shape: Tuple[int, ...]) -> None:
        """Memory for inputs of a shape, and for what comes out."""
        if shape == self._shape:
            return
        self._require_fitting(shape)
        if not self._context.set_input_shape(self._input_name, tuple(shape)):
            raise AgentError("runtime", f"tensorrt: {self._model_name}: {self._opened.record.shown()}")
        shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in self.output_names}
        for name, found in shapes.items():
            if min(found, default=0) < 0:
                raise AgentError(
                    "artifact",
                    f"{self._model_name}: the size of '{name}' {found} depends on the image; export with nms: outside",
                )
        _free(self._cuda, self._addresses)
        for name, found in {self._input_name: shape, **shapes}.items():
            host = self._cuda.pinned(found, self._dtype(name))
            address = self._cuda.malloc(max(host.nbytes, 1))
            self._addresses.append(address)
            self._tensors[name] = _Tensor(host, address)
            self._context.set_tensor_address(name, address)
        self._shape = tuple(shape)

    def _require_fitting(self, shape: Tuple[int, ...]) -> None:
        made = tuple(self._engine.get_tensor_shape(self._input_name))
        least = most = made
        if -1 in made:
            least, _, most = (tuple(each) for each in self._engine.get_tensor_profile_shape(self._input_name, 0))
        fits = len(shape) == len(made) and all(low <= edge <= high for low, edge, high in zip(least, shape, most))
        if fits:
            return
        allowed = f"exactly {made}" if least == most else f"{least} to {most}"
        raise AgentError(
            "artifact",
            f"{self._model_name}: asked to run {tuple(shape)}, but its engine takes {allowed}; export at that size, or"
            " with size or batch: dynamic and options.tensorrt.shapes that include it",
        )


def _free(cuda: Cuda, addresses: List[int]) -> None:
    while addresses:
        cuda.free(addresses.pop())


def _release(cuda: Cuda, stream: int, addresses: List[int]) -> None:
    _free(cuda, addresses)
    cuda.destroy(stream)
