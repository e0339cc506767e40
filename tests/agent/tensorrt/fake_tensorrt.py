"""The Python package of TensorRT in three versions, with exactly the names that each has: a wrong one raises.

A plan of it is a line of JSON, which says how it was built, and the ONNX; a context computes it with ONNX Runtime.
"""
# ruff: noqa: N802 (names of the library)

from __future__ import annotations

import ctypes
import enum
import json
import types
from pathlib import Path
from typing import Any

import numpy as np

RECORDED = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())["versions"]
VERSIONS = tuple(RECORDED)
UNSUPPORTED = "Bernoulli"  # an operator that the fake refuses, as each version refuses one

_REFUSED = {
    "8": "In node 0 (parseGraph): UNSUPPORTED_NODE: No importer registered for op: Bernoulli",
    "10": "No importer registered for op: Bernoulli. Attempting to import as plugin.",
    "11": "No importer registered for op: Bernoulli. Attempting to import as plugin.",
}
_OTHER_VERSION = {
    "8": "1: [stdArchiveReader.cpp::StdArchiveReader::40] Error Code 1: Serialization (Serialization assertion "
    "stdVersionRead == serializationVersion failed.Version tag does not match. Note: Current Version: 213, Serialized "
    "Engine Version: 232)",
    "10": "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is not compatible with "
    "this version of TensorRT, expecting library version {now} got {then}, please rebuild.)",
    "11": "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is not compatible with "
    "this version of TensorRT, expecting library version {now} got {then}, please rebuild.)",
}
_DTYPES = {"float32": "FLOAT", "float16": "HALF", "uint8": "UINT8", "int32": "INT32", "int64": "INT64"}


def written_plan(header: dict[str, Any], onnx: bytes) -> bytes:
    return json.dumps(header).encode() + b"\n" + onnx


def read_plan(plan: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, onnx = bytes(plan).partition(b"\n")
    return json.loads(head), onnx


class _Strict:
    """Refuses every public name that the version lacks, for reading and for writing."""

    _allowed: frozenset[str] = frozenset()

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in type(self)._allowed:
            raise AttributeError(f"{type(self).__name__} has no '{name}' in this version")
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in type(self)._allowed:
            raise AttributeError(f"{type(self).__name__} has no '{name}' in this version")
        super().__setattr__(name, value)


class World:
    """What the fake of one version stands in, and what it was asked.

    Args:
        version: one of `VERSIONS`.
        dla_cores: of the device.
    """

    def __init__(self, version: str, dla_cores: int = 0) -> None:
        self.version, self.major, self.dla_cores = version, version.partition(".")[0], dla_cores
        self.builds = 0
        self.dla_layers = ["{ForeignNode[pooled...two]}"]
        self.module = types.ModuleType("tensorrt")
        self.module.__version__ = version  # type: ignore[attr-defined]
        names = RECORDED[version]
        for kind, members in names["enums"].items():
            self._publish(kind, enum.IntEnum(kind, {member: place for place, member in enumerate(members)}))
        for base in (_Logger, *_CLASSES):
            allowed = frozenset(names["classes"].get(base.recorded_as, ()))
            self._publish(base.recorded_as, type(base.recorded_as, (base,), {"_allowed": allowed, "_world": self}))
        self._publish("init_libnvinfer_plugins", lambda logger, namespace: namespace == "")

    def _publish(self, name: str, value: Any) -> None:
        if name in RECORDED[self.version]["module"]:
            setattr(self.module, name, value)

    def make(self, name: str, *arguments: Any) -> Any:
        return getattr(self.module, name)(*arguments)


class _Logger:
    recorded_as = "ILogger"
    _allowed: frozenset[str]
    _world: World
    Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


def _say(logger: Any, severity: str, *messages: str) -> None:
    for message in messages:
        logger.log(_Logger.Severity[severity], message)


class _Builder(_Strict):
    recorded_as = "Builder"
    _world: World

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    @property
    def num_DLA_cores(self) -> int:
        return self._world.dla_cores

    def create_network(self, flags: int = 0) -> Any:
        return types.SimpleNamespace(flags=flags, onnx=None)

    def create_builder_config(self) -> Any:
        return self._world.make("IBuilderConfig")

    def create_optimization_profile(self) -> Any:
        return self._world.make("IOptimizationProfile")

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        world = self._world
        world.builds += 1
        dla = config._device is not None and config._device.name == "DLA"
        if dla and world.dla_layers:
            _say(self._logger, "INFO", "---------- Layers Running on DLA ----------")
            _say(self._logger, "INFO", *(f"[DlaLayer] {name}" for name in world.dla_layers))
        _say(self._logger, "INFO", "---------- Layers Running on GPU ----------", "[GpuLayer] SHUFFLE: by_class")
        if config._level == 0:
            _say(self._logger, "ERROR", "10: Could not find any implementation for node pooled.")
            return None
        header = {
            "version": world.version,
            "network_flags": network.flags,
            "flags": sorted(config._flags),
            "workspace": config._workspace,
            "level": config._level,
            "profiles": config._profiles,
            "timings": None if config._cache is None else config._cache._content.decode(),
            "dla_core": config._core,
        }
        if config._cache is not None:
            config._cache._content += b"measured;"
        return written_plan(header, network.onnx)


class _Config(_Strict):
    recorded_as = "IBuilderConfig"
    _world: World

    def __init__(self) -> None:
        self._flags = {"TF32"}  # on unless told otherwise, in every version
        self._workspace: int | None = None
        self._level: int | None = None
        self._profiles: list[Any] = []
        self._cache: Any = None
        self._device: Any = None
        self._core: int | None = None

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        assert pool.name == "WORKSPACE"
        self._workspace = size

    def create_timing_cache(self, content: bytes) -> Any:
        return self._world.make("ITimingCache", content)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if b"other device" in cache._content and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile._shapes)
        return 0

    builder_optimization_level = property(None, lambda self, level: setattr(self, "_level", level))
    default_device_type = property(None, lambda self, kind: setattr(self, "_device", kind))
    DLA_core = property(None, lambda self, core: setattr(self, "_core", core))


class _TimingCache(_Strict):
    recorded_as = "ITimingCache"

    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content


class _Profile(_Strict):
    recorded_as = "IOptimizationProfile"

    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._shapes[input] = [list(min), list(opt), list(max)]


class _ParserError(_Strict):
    recorded_as = "ParserError"

    def __init__(self, number: int, name: str, operator: str, text: str) -> None:
        self._values = (number, name, operator, text)

    def node(self) -> int:
        return self._values[0]

    def node_name(self) -> str:
        return self._values[1]

    def node_operator(self) -> str:
        return self._values[2]

    def desc(self) -> str:
        return self._values[3]


class _Parser(_Strict):
    recorded_as = "OnnxParser"
    _world: World

    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self._errors = network, []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def parse(self, content: bytes) -> bool:
        import onnx

        graph = onnx.load_from_string(content).graph
        self._errors = [
            self._world.make("ParserError", number, node.name, node.op_type, _REFUSED[self._world.major])
            for number, node in enumerate(graph.node)
            if node.op_type == UNSUPPORTED
        ]
        self._network.onnx = content
        return not self._errors


class _Runtime(_Strict):
    recorded_as = "Runtime"
    _world: World

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._dla_core: int | None = None
        self._host_code = False

    engine_host_code_allowed = property(None, lambda self, value: setattr(self, "_host_code", value))
    DLA_core = property(None, lambda self, core: setattr(self, "_dla_core", core))

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        world = self._world
        header, onnx = read_plan(plan)
        if header["version"] != world.version:
            text = _OTHER_VERSION[world.major].format(now=world.version, then=header["version"])
            _say(self._logger, "ERROR", text, "Error Code 4: Internal Error (Engine deserialization failed.)")
            return None
        assert self._dla_core == header.get("dla_core")
        assert self._host_code == ("VERSION_COMPATIBLE" in header.get("flags", ()))
        return world.make("ICudaEngine", header, onnx)


class _Engine(_Strict):
    recorded_as = "ICudaEngine"
    _world: World

    def __init__(self, header: dict[str, Any], onnx: bytes) -> None:
        import onnxruntime

        self._header = header
        self._session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        self._inputs = {value.name: value for value in self._session.get_inputs()}
        self._outputs = {value.name: value for value in self._session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self._inputs) + len(self._outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._world.module.TensorIOMode  # type: ignore[attr-defined]
        return modes.INPUT if name in self._inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        kind = (self._inputs | self._outputs)[name].type
        names = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(uint8)": "UINT8"}
        return self._world.module.DataType[names[kind]]  # type: ignore[attr-defined]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = (self._inputs | self._outputs)[name].shape
        return tuple(edge if isinstance(edge, int) else -1 for edge in shape)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._header["profiles"][profile_index][name]]

    def create_execution_context(self) -> Any:
        return self._world.make("IExecutionContext", self)


class _Context(_Strict):
    recorded_as = "IExecutionContext"

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}
        self._results: dict[str, Any] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        made = self._engine.get_tensor_shape(name)
        self._shape = shape
        zeros = np.zeros(shape, self._dtype(name))
        self._results = self._computed(name, zeros)
        return all(edge in (-1, given) for edge, given in zip(made, shape, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._results[name].shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream, "the default stream costs extra waits"
        (name,) = self._engine._inputs
        given = np.zeros(self._shape, self._dtype(name))
        ctypes.memmove(given.ctypes.data, self._addresses[name], given.nbytes)
        for output, value in self._computed(name, given).items():
            whole = np.ascontiguousarray(value)
            ctypes.memmove(self._addresses[output], whole.ctypes.data, whole.nbytes)
        return True

    def _dtype(self, name: str) -> str:
        kind = self._engine.get_tensor_dtype(name).name
        return next(dtype for dtype, short in _DTYPES.items() if short == kind)

    def _computed(self, name: str, value: Any) -> dict[str, Any]:
        names = list(self._engine._outputs)
        return dict(zip(names, self._engine._session.run(names, {name: value}), strict=True))


_CLASSES = (_Builder, _Config, _TimingCache, _Profile, _ParserError, _Parser, _Runtime, _Engine, _Context)
