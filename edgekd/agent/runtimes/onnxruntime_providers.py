# SPDX-License-Identifier: Apache-2.0
"""Execution providers of ONNX Runtime: what each is told unless the device says otherwise, and where nodes went."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import onnxruntime

from ..protocol import AgentError
from . import Model

CPU = "CPUExecutionProvider"
_SHOWN = 5

Options = Dict[str, str]


def _nothing(model: Model) -> Options:
    return {}


def _cuda(model: Model) -> Options:
    """Float32 is float32: TF32 would round factors to 10 bits."""
    return {"use_tf32": "0"}


def _tensorrt(model: Model) -> Options:
    """Engines are kept between processes, as the runtime `tensorrt` keeps its own."""
    root = os.environ.get("EDGEKD_CACHE")
    folder = str((Path(root) if root else Path.home() / ".cache/edgekd") / "onnxruntime-tensorrt")
    kept = {"trt_engine_cache_path": folder, "trt_timing_cache_path": folder}
    flags = {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1"}
    precision = {"fp16": {"trt_fp16_enable": "1"}, "int8": {"trt_int8_enable": "1"}}
    return {**kept, **flags, **precision.get(model.precision, {})}


def _xnnpack(model: Model) -> Options:
    """It has threads of its own, beside which those of the session would only spin."""
    return {"intra_op_num_threads": str(model.threads_per_stream)}


def _qnn(model: Model) -> Options:
    """The neural processor; float32 graphs are computed in float16 there."""
    own = model.provider_options.get("QNNExecutionProvider", {})
    backend = {} if "backend_type" in own else {"backend_path": "libQnnHtp.so"}  # the two exclude each other
    return {**backend, "htp_performance_mode": "burst"}


_DEFAULTS: Dict[str, Callable[[Model], Options]] = {
    "CUDAExecutionProvider": _cuda,
    "TensorrtExecutionProvider": _tensorrt,
    "XnnpackExecutionProvider": _xnnpack,
    "QNNExecutionProvider": _qnn,
}
OWN_THREADS = ("XnnpackExecutionProvider",)
# Whose session several threads may run at once; of the others (XNNPACK, DirectML, WebGPU ...) each stream has its own.
CONCURRENT = (CPU, "CUDAExecutionProvider", "TensorrtExecutionProvider", "QNNExecutionProvider")


def with_options(model: Model) -> List[Tuple[str, Options]]:
    """The asked providers with their options.

    Raises:
        AgentError: this build of ONNX Runtime lacks one, or options are for a provider that is not asked for.
    """
    available = onnxruntime.get_available_providers()
    lacking = [name for name in model.providers if name not in available]
    if lacking:
        raise AgentError(
            "runtime",
            f"onnxruntime: asked for {', '.join(lacking)}, got none: onnxruntime {onnxruntime.__version__} on this"
            f" device has {', '.join(available)}; install the build that has it (e.g. onnxruntime-gpu,"
            " onnxruntime-qnn), or choose another provider",
        )
    strange = sorted(set(model.provider_options) - set(model.providers))
    if strange:
        raise AgentError(
            "runtime", f"onnxruntime: options for {', '.join(strange)}, but asked for {', '.join(model.providers)}"
        )
    return [
        (name, {**_DEFAULTS.get(name, _nothing)(model), **model.provider_options.get(name, {})})
        for name in model.providers
    ]


def fallback_refused(error: Exception, model: Model) -> AgentError:
    """What to say where ONNX Runtime would have put nodes on the CPU, which it was told not to do."""
    asked = ", ".join(model.providers)
    return AgentError(
        "runtime",
        f"onnxruntime: asked for {asked}, but nodes of {model.path.name} would run on the CPU"
        f" ({' '.join(str(error).split())[:160]}); choose a target that {asked} takes whole, or list {CPU} last to"
        " allow it and have them counted",
    )


def nodes_by_provider(session: Any) -> Dict[str, Any]:
    """How many nodes run where, and which on the CPU; empty where the library does not tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    counts: Dict[str, int] = {}
    on_cpu: List[str] = []
    for part in session.get_provider_graph_assignment_info():
        nodes = part.get_nodes()
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(nodes)
        if part.ep_name == CPU:
            on_cpu += [f"{node.name} ({node.op_type})" for node in nodes]
    more = [f"and {len(on_cpu) - _SHOWN} more"] if len(on_cpu) > _SHOWN else []
    return {"nodes": counts, "cpu_nodes": on_cpu[:_SHOWN] + more}
