"""A CUDA runtime library in Python: device memory is host memory that only this library may copy to and from."""
# ruff: noqa: N802 (names of the library)

from __future__ import annotations

import ctypes
from typing import Any

_TO_DEVICE, _TO_HOST = 1, 2
_INVALID_VALUE, _OUT_OF_MEMORY, _NO_DEVICE = 1, 2, 100
_TEXTS = {
    _INVALID_VALUE: b"invalid argument",
    _OUT_OF_MEMORY: b"out of memory",
    _NO_DEVICE: b"no CUDA-capable device is detected",
}


class ErrorText:
    restype: Any = None

    def __call__(self, code: ctypes.c_int) -> bytes:
        return _TEXTS.get(code.value, b"unknown error")


class FakeCudart:
    """Takes the arguments of ctypes calls; counts what is not given back.

    Args:
        gpus: how many there are.
        memory_bytes: of the device.
        name, sm_count: of the device.
    """

    def __init__(self, gpus: int = 1, memory_bytes: int = 1 << 30, name: bytes = b"Orin", sm_count: int = 16) -> None:
        self.gpus, self.total_bytes, self.name = gpus, memory_bytes, name
        self.attributes = {16: sm_count, 75: 8, 76: 7}
        self.device: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.copies: list[tuple[int, int, int]] = []  # kind, bytes, stream
        self.waits = 0
        self.cudaGetErrorString = ErrorText()

    def cudaGetDeviceCount(self, count: Any) -> int:
        count._obj.value = self.gpus
        return 0 if self.gpus else _NO_DEVICE

    def cudaGetDevice(self, number: Any) -> int:
        number._obj.value = 0
        return 0

    def cudaDeviceGetAttribute(self, value: Any, code: ctypes.c_int, device: ctypes.c_int) -> int:
        value._obj.value = self.attributes[code.value]
        return 0

    def cudaGetDeviceProperties(self, properties: Any, device: ctypes.c_int) -> int:
        ctypes.memmove(properties, self.name + b"\0", len(self.name) + 1)
        return 0

    def cudaDriverGetVersion(self, value: Any) -> int:
        value._obj.value = 12060
        return 0

    def cudaRuntimeGetVersion(self, value: Any) -> int:
        value._obj.value = 12040
        return 0

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:
        total._obj.value = self.total_bytes
        free._obj.value = self.total_bytes - sum(len(memory) for memory in self.device.values())
        return 0

    def cudaMalloc(self, address: Any, size: ctypes.c_size_t) -> int:
        if sum(len(memory) for memory in self.device.values()) + size.value > self.total_bytes:
            return _OUT_OF_MEMORY
        return self._allocate(self.device, address, size.value)

    def cudaMallocHost(self, address: Any, size: ctypes.c_size_t) -> int:
        return self._allocate(self.pinned, address, size.value)

    def cudaFree(self, address: ctypes.c_void_p) -> int:
        return 0 if self.device.pop(address.value or 0, None) is not None else _INVALID_VALUE

    def cudaFreeHost(self, address: ctypes.c_void_p) -> int:
        return 0 if self.pinned.pop(address.value or 0, None) is not None else _INVALID_VALUE

    def cudaStreamCreateWithFlags(self, handle: Any, flags: ctypes.c_uint) -> int:
        assert flags.value == 1  # does not wait for the default stream
        handle._obj.value = 0x5000 + len(self.streams)
        self.streams.add(handle._obj.value)
        return 0

    def cudaStreamDestroy(self, handle: ctypes.c_void_p) -> int:
        self.streams.remove(handle.value or 0)
        return 0

    def cudaStreamSynchronize(self, handle: ctypes.c_void_p) -> int:
        assert handle.value in self.streams
        self.waits += 1
        return 0

    def cudaMemcpyAsync(self, target: Any, source: Any, size: Any, kind: Any, stream: Any) -> int:
        on_device = target.value if kind.value == _TO_DEVICE else source.value
        on_host = source.value if kind.value == _TO_DEVICE else target.value
        assert kind.value in (_TO_DEVICE, _TO_HOST)
        assert size.value <= len(self.device[on_device])
        assert size.value <= len(self.pinned[on_host]), "a copy of pageable memory would wait"
        ctypes.memmove(target.value, source.value, size.value)
        self.copies.append((kind.value, size.value, stream.value))
        return 0

    @staticmethod
    def _allocate(place: dict[int, Any], address: Any, size: int) -> int:
        memory = ctypes.create_string_buffer(b"\xff" * size, size)
        address._obj.value = ctypes.addressof(memory)
        place[address._obj.value] = memory
        return 0
