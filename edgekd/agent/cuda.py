# SPDX-License-Identifier: Apache-2.0
"""Memory and streams of an NVIDIA GPU, through ctypes on the CUDA runtime library: no further package is needed."""

from __future__ import annotations

import ctypes
import functools
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple, Optional, Tuple

import numpy as np

from .protocol import AgentError

if TYPE_CHECKING:
    import numpy.typing as npt

_TO_DEVICE, _TO_HOST = 1, 2
_NON_BLOCKING = 1
_ATTRIBUTES = {"sm_count": 16, "major": 75, "minor": 76}  # of cudaDeviceAttr, the same in every version
_PROPERTIES_BYTES = 8192  # more than cudaDeviceProp of any version; the name stands at its start in all of them
_NAME_BYTES = 256
_LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2", "libcudart.so")
_FOLDERS = ("usr/local/cuda/lib64", "usr/local/cuda*/targets/*/lib", "usr/lib/*-linux-gnu")
_PACKAGES = ("nvidia/cu13/lib", "nvidia/cuda_runtime/lib")


class Gpu(NamedTuple):
    """What an engine is bound to, and the software under it.

    Attributes:
        name: e.g. `Orin`.
        compute_capability: e.g. `8.7`.
        sm_count: streaming multiprocessors.
        memory_bytes: of the device.
        driver, runtime: versions of CUDA, e.g. `12.6`.
    """

    name: str
    compute_capability: str
    sm_count: int
    memory_bytes: int
    driver: str
    runtime: str


class Cuda:
    """The functions of the library, with errors as AgentErrors.

    Args:
        library: what `ctypes.CDLL` gives; None looks for it.

    Raises:
        AgentError: no library, or no GPU.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library or load_library()
        count = ctypes.c_int()
        self._call("cudaGetDeviceCount", ctypes.byref(count))
        if count.value < 1:
            raise AgentError("runtime", "CUDA sees no GPU on this device; run it where there is one")

    def malloc(self, size_bytes: int) -> int:
        """Address of new device memory."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address.value or 0

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def pinned(self, shape: Tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        """A zeroed array in page-locked host memory, which copies run on without a stop in between.

        The memory is given back when the last view of it goes.
        """
        size_bytes = _size_bytes(shape, dtype)
        address = ctypes.c_void_p()
        self._call("cudaMallocHost", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        assert address.value is not None
        memory = (ctypes.c_uint8 * size_bytes).from_address(address.value)
        weakref.finalize(memory, self._library.cudaFreeHost, address).atexit = False
        array: npt.NDArray[Any] = np.frombuffer(memoryview(memory), dtype=np.dtype(dtype)).reshape(shape)
        array[...] = 0
        return array

    def stream(self) -> int:
        """A new stream that does not wait for the default one."""
        handle = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(handle), ctypes.c_uint(_NON_BLOCKING))
        return handle.value or 0

    def destroy(self, stream: int) -> None:
        """End a stream."""
        self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def to_device(self, address: int, array: npt.NDArray[Any], stream: int) -> None:
        """Enqueue a copy of a whole contiguous array to device memory."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE, stream)

    def to_host(self, array: npt.NDArray[Any], address: int, stream: int) -> None:
        """Enqueue a copy of device memory that fills a whole contiguous array."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST, stream)

    def synchronize(self, stream: int) -> None:
        """Wait until everything that was enqueued is done."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def memory_bytes(self) -> Tuple[int, int]:
        """Free and total device memory."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def gpu(self) -> Gpu:
        """The current device."""
        number = ctypes.c_int()
        self._call("cudaGetDevice", ctypes.byref(number))
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self._call("cudaGetDeviceProperties", properties, number)
        found = {name: self._attribute(code, number) for name, code in _ATTRIBUTES.items()}
        return Gpu(
            name=properties.raw[:_NAME_BYTES].split(b"\0", 1)[0].decode("utf-8", errors="replace"),
            compute_capability=f"{found['major']}.{found['minor']}",
            sm_count=found["sm_count"],
            memory_bytes=self.memory_bytes()[1],
            driver=self._version("cudaDriverGetVersion"),
            runtime=self._version("cudaRuntimeGetVersion"),
        )

    def _attribute(self, code: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(code), device)
        return value.value

    def _version(self, function: str) -> str:
        value = ctypes.c_int()
        self._call(function, ctypes.byref(value))
        return f"{value.value // 1000}.{value.value % 1000 // 10}"

    def _copy(self, target: int, source: int, size_bytes: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size_bytes),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            raise AgentError("runtime", f"CUDA: {function}: {self._text(code)} (error {code})")

    def _text(self, code: int) -> str:
        function = self._library.cudaGetErrorString
        function.restype = ctypes.c_char_p
        text: Optional[bytes] = function(ctypes.c_int(code))
        return (text or b"unknown error").decode("utf-8", errors="replace")


@functools.lru_cache(maxsize=None)
def load_library() -> Any:
    """The CUDA runtime library: from the loader's path, the usual folders, or the packages of this Python.

    A newer one may be there that the driver does not serve, so the first that sees a GPU is taken.

    Raises:
        AgentError: there is none.
    """
    first = None
    for name in _candidates():
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if library.cudaGetDeviceCount(ctypes.byref(ctypes.c_int())) == 0:
            return library
        first = first or library
    if first is not None:
        return first
    raise AgentError(
        "runtime",
        "no CUDA runtime library (libcudart.so) on this device; install CUDA or JetPack, or the package"
        " nvidia-cuda-runtime for this Python",
    )


def _candidates() -> Iterator[str]:
    yield from _LIBRARIES
    for folder in _FOLDERS:
        yield from sorted((str(path) for path in Path("/").glob(folder + "/libcudart.so*")), reverse=True)
    for entry in sys.path:
        for package in _PACKAGES:
            yield from sorted(str(path) for path in Path(entry, package).glob("libcudart.so*"))


def _size_bytes(shape: Tuple[int, ...], dtype: str) -> int:
    size = np.dtype(dtype).itemsize
    for edge in shape:
        size *= edge
    return max(size, 1)
