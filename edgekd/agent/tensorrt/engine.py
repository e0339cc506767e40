# SPDX-License-Identifier: Apache-2.0
"""An engine for a model on this device: from the cache, else built; or from a plan that the user brought."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from .. import tegra
from ..cuda import Gpu
from ..protocol import AgentError
from . import cache, python_builder, trtexec
from .dialects import Dialect, dialect_of
from .log import Record, make_logger, start
from .recipe import Recipe

PLAN_SUFFIXES = (".plan", ".engine")


class Engine(NamedTuple):
    """A deserialised engine with all that must live as long as it.

    Attributes:
        engine: `ICudaEngine`.
        keep: logger and runtime.
        record: of TensorRT's messages.
        build_ms: how long building took; None if it was not built now.
        options: for the environment record.
    """

    engine: Any
    keep: Tuple[Any, ...]
    record: Record
    build_ms: Optional[float]
    options: Dict[str, Any]


def open_engine(trt: Any, gpu: Gpu, path: Path, recipe: Recipe) -> Engine:
    """The engine of an artifact.

    Args:
        trt: the module `tensorrt`.
        gpu: that it runs on.
        path: an ONNX, or a plan that was built elsewhere.
        recipe: of the sidecar.

    Raises:
        AgentError: it cannot be built, or the plan is of another version or GPU.
    """
    dialect = dialect_of(trt.__version__)
    if path.suffix in PLAN_SUFFIXES:
        return _given(trt, path, recipe)
    return _Workshop(trt, dialect, gpu, path, recipe).engine()


def _given(trt: Any, path: Path, recipe: Recipe) -> Engine:
    engine, keep, record = _deserialise(trt, path.read_bytes(), recipe)
    if engine is None:
        raise AgentError(
            "artifact",
            f"{path.name}: TensorRT {trt.__version__} on this device cannot read the engine ({record.shown()}): engines"
            " are bound to the version and the GPU they were built with; export the ONNX with a tensorrt target, it"
            " is built here",
        )
    return Engine(engine, keep, record, None, {"engine": "given"})


class _Workshop:
    """Looks up one model, builds it if need be, and proves each plan by reading it."""

    def __init__(self, trt: Any, dialect: Dialect, gpu: Gpu, onnx: Path, recipe: Recipe) -> None:
        self.trt, self.dialect, self.onnx, self.recipe = trt, dialect, onnx, recipe
        self.place = cache.folder()
        sha256 = hashlib.sha256(onnx.read_bytes()).hexdigest()
        self.bound = cache.bound_to(sha256, recipe, trt.__version__, gpu, tegra.l4t_release(), tegra.power_mode())
        self.key = cache.key_of(self.bound)
        self.timings = cache.timing_cache_path(self.place, trt.__version__, gpu)

    def engine(self) -> Engine:
        state = "built"
        entry = cache.load(self.place, self.key)
        if entry is not None:
            engine, keep, record = _deserialise(self.trt, entry.plan, self.recipe)
            if engine is not None:
                return Engine(engine, keep, record, None, self._options("cached", entry.record))
            print(f"edgekd-agent: cached engine is unreadable ({record.shown()}); building it again", file=sys.stderr)
            state = "built again"
        elif (self.place / f"{self.key}.plan").exists():
            print("edgekd-agent: cached engine was changed or is not whole; building it again", file=sys.stderr)
            state = "built again"
        return self._build(state)

    def _build(self, state: str) -> Engine:
        started = time.perf_counter()
        kept = cache.read_timings(self.timings) if self.recipe.timing_cache else None
        if self.recipe.builder == "trtexec":
            built = trtexec.build(self.trt, self.onnx, self.recipe, kept)
        else:
            built = python_builder.build(self.trt, self.dialect, self.onnx, self.recipe, kept)
        self._require_accelerator(built.record)
        build_ms = (time.perf_counter() - started) * 1e3
        if built.timing_cache:
            cache.write_timings(self.timings, built.timing_cache)
        engine, keep, record = _deserialise(self.trt, built.plan, self.recipe)
        if engine is None:
            raise AgentError("runtime", f"{self.onnx.name}: the engine just built cannot be read: {record.shown()}")
        written = cache.save(
            self.place,
            self.key,
            built.plan,
            {
                "bound_to": self.bound,
                "build_ms": build_ms,
                "dla_layers": built.record.dla_layers,
                "gpu_layers": built.record.gpu_layers if self.recipe.dla_core is not None else [],
            },
        )
        return Engine(engine, keep, record, build_ms, self._options(state, written))

    def _require_accelerator(self, record: Record) -> None:
        """An engine asked for on the DLA that has no layer there is a fallback of the whole model."""
        if self.recipe.dla_core is not None and not record.dla_layers:
            raise AgentError(
                "runtime",
                f"{self.onnx.name}: no layer runs on DLA {self.recipe.dla_core}: all went to the GPU; export without"
                " dla_core",
            )

    def _options(self, state: str, record: Dict[str, Any]) -> Dict[str, Any]:
        typing = self.dialect.typing(self.recipe.dla_core is not None)
        options = {
            "engine": state,
            "engine_sha256": record["plan_sha256"],
            "engine_key": self.key,
            "cache": str(self.place),
            "typing": typing,
            "recipe": self.recipe._asdict(),
            "l4t": self.bound["l4t"],
            "power_mode": self.bound["power_mode"],
        }
        if self.recipe.dla_core is not None:
            options["dla_layers"] = len(record.get("dla_layers", ()))
            options["gpu_fallback_layers"] = list(record.get("gpu_layers", ()))
        return options


def _deserialise(trt: Any, plan: bytes, recipe: Recipe) -> Tuple[Any, Tuple[Any, ...], Record]:
    record = Record()
    logger = make_logger(trt, record)
    trt.init_libnvinfer_plugins(logger, "")
    runtime = start(trt, "Runtime", logger, record)
    if recipe.version_compatible:
        runtime.engine_host_code_allowed = True  # such an engine brings its own lean runtime
    if recipe.dla_core is not None:
        runtime.DLA_core = recipe.dla_core
    return runtime.deserialize_cuda_engine(plan), (logger, runtime), record
