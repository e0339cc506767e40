# SPDX-License-Identifier: Apache-2.0
"""Builds an engine with the Python package of TensorRT, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, NamedTuple, Optional

from ..protocol import AgentError
from .dialects import WEAK, Dialect
from .log import Record, make_logger, start
from .recipe import Recipe

_MOST_PROBLEMS = 5


class Built(NamedTuple):
    """What a builder makes.

    Attributes:
        plan: the serialised engine.
        timing_cache: to keep for the next build.
        record: what was said.
    """

    plan: bytes
    timing_cache: Optional[bytes]
    record: Record


def build(trt: Any, dialect: Dialect, onnx: Path, recipe: Recipe, timing_cache: Optional[bytes]) -> Built:
    """Build an engine; takes seconds to many minutes.

    Args:
        trt: the module `tensorrt`.
        dialect: of its version.
        onnx: the model.
        recipe: how to build it.
        timing_cache: of an earlier build on this device.

    Raises:
        AgentError: an operator that TensorRT lacks, an accelerator that is not there, or any other failure.
    """
    record = Record()
    logger = make_logger(trt, record)
    trt.init_libnvinfer_plugins(logger, "")
    builder = start(trt, "Builder", logger, record)
    typing = dialect.typing(recipe.dla_core is not None)
    flags = 0
    for name in dialect.network_flags[typing]:
        flags |= 1 << int(getattr(trt.NetworkDefinitionCreationFlag, name))
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx.read_bytes()):
        raise AgentError("artifact", _refused(trt, onnx, _problems(parser, dialect) or [record.shown()]))
    config = _config(trt, builder, recipe)
    if typing == WEAK:
        for name in dialect.precision_flags[recipe.precision]:
            config.set_flag(getattr(trt.BuilderFlag, name))
    if recipe.shapes:
        profile = builder.create_optimization_profile()
        profile.set_shape(recipe.input_name, *recipe.shapes)
        config.add_optimization_profile(profile)
    cache = _attach_timing_cache(trt, config, timing_cache) if recipe.timing_cache else None
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise AgentError("runtime", f"{onnx.name}: TensorRT {trt.__version__} cannot build it: {record.shown()}")
    return Built(bytes(plan), None if cache is None else bytes(cache.serialize()), record)


def _config(trt: Any, builder: Any, recipe: Recipe) -> Any:
    config = builder.create_builder_config()
    if recipe.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_mb << 20)
    if recipe.optimization_level is not None:
        config.builder_optimization_level = recipe.optimization_level
    if recipe.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if not recipe.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if not recipe.timing_cache:
        config.set_flag(trt.BuilderFlag.DISABLE_TIMING_CACHE)
    if recipe.dla_core is not None:
        if recipe.dla_core >= builder.num_DLA_cores:
            raise AgentError(
                "runtime",
                f"dla_core: {recipe.dla_core}, but TensorRT {trt.__version__} sees {builder.num_DLA_cores} DLA cores"
                " on this device; export without dla_core",
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = recipe.dla_core
        if recipe.allow_gpu_fallback:
            config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    return config


def _attach_timing_cache(trt: Any, config: Any, content: Optional[bytes]) -> Any:
    """The timing cache that the build reads and fills; a new one where the old one is of another device."""
    cache = config.create_timing_cache(content or b"")
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _problems(parser: Any, dialect: Dialect) -> List[str]:
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        if dialect.named_nodes:
            where = f"node '{error.node_name()}' ({error.node_operator()})"
        else:
            where = f"node {error.node()}"
        found.append(f"{where}: {' '.join(error.desc().split())}")
    return found


def _refused(trt: Any, onnx: Path, problems: List[str]) -> str:
    more = f" (and {len(problems) - _MOST_PROBLEMS} more)" if len(problems) > _MOST_PROBLEMS else ""
    shown = "; ".join(problems[:_MOST_PROBLEMS]) + more
    return (
        f"{onnx.name}: TensorRT {trt.__version__} does not take the graph: {shown}; export it with another opset or"
        " with nms: outside, or run an ONNX target with onnxruntime on this device"
    )
