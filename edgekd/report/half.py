"""float16 on a CPU: half the file and, in most runtimes, no less time. Unsaid, readers take it for an optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def on_cpu(precision: str | None, profile: Mapping[str, Any] | None) -> list[str]:
    """A note, where an artifact in float16 was computed in float32; nothing where it was not, or that is not known.

    Args:
        precision: of the artifact.
        profile: summary of its latency.
    """
    runtime = ((profile or {}).get("environment") or {}).get("runtime") or {}
    if precision != "fp16" or not _in_single(runtime):
        return []
    return [f"float16 saves size here, not time: {runtime['name']} computes it in float32 on this CPU"]


def _in_single(runtime: Mapping[str, Any]) -> bool:
    """ONNX Runtime casts around most operators, LiteRT unpacks weights; OpenVINO says what it computes in."""
    name, providers = runtime.get("name"), set(runtime.get("providers") or ())
    if name == "onnxruntime":
        return providers == {"CPUExecutionProvider"}
    if name == "openvino":
        return providers == {"CPU"} and (runtime.get("options") or {}).get("INFERENCE_PRECISION_HINT") == "f32"
    return name == "litert" and bool(providers) and providers <= {"XNNPACK", "CPU"}
