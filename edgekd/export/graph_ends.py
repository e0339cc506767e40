"""What a target may fold into both ends of its graph: a uint8 input in front; behind, the NMS, and another layout.

It is done once, to the last ONNX of the chain: after quantisation, which looks at learned layers, and before the first
step that leaves ONNX, so one implementation serves all runtimes that take it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from edgekd.export import onnx_layout, onnx_nms, onnx_uint8
from edgekd.export.contract import Artifact, Suppression, TargetSpec, step

RUNTIMES = ("onnxruntime", "openvino", "tensorrt")
OPTIONS: dict[str, type[BaseModel]] = {"nms": Suppression, "input": onnx_uint8.InputOptions}
_PLAIN = {"nms": "outside", "input": "float32_nchw", "layout": "edgekd"}
_FOLDED = {"nms": "in_graph", "input": "uint8_nhwc", "layout": "ultralytics"}
_INSTEAD = {"nms": ", the agent then does it", "input": ", the agent then does it", "layout": ""}


def misfits(spec: TargetSpec) -> Iterator[str]:
    """Why a target cannot have what it asks for at the ends of its graph."""
    makes_onnx = any(step(name).target == "onnx" for name in spec.steps)
    for key, folded in _FOLDED.items():
        if getattr(spec, key) == folded and not (makes_onnx and spec.runtime in RUNTIMES):
            yield (
                f"{key}: {folded} is for graphs that {', '.join(RUNTIMES[:-1])} or {RUNTIMES[-1]} run, made from ONNX, "
                f"not for {spec.runtime}; set {key}: {_PLAIN[key]}{_INSTEAD[key]}"
            )
        if key in spec.options and getattr(spec, key) != folded:
            yield f"options.{key}: does nothing while {key} is {_PLAIN[key]}; set {key}: {folded}, or remove it"


def is_last_onnx(spec: TargetSpec, index: int) -> bool:
    """Whether step `index` of a target makes the ONNX that is run, or that leaves ONNX next."""
    following = spec.steps[index + 1] if index + 1 < len(spec.steps) else None
    return step(spec.steps[index]).target == "onnx" and (following is None or step(following).target != "onnx")


def fold(artifact: Artifact, spec: TargetSpec, folder: Path) -> Artifact:
    """The ONNX artifact with what the target asks for at its ends; itself if that is nothing.

    Args:
        folder: for new subfolders.

    Raises:
        InputError: as `append_nms` and `take_uint8` do.
    """
    if spec.nms == "in_graph":
        (folder / "nms").mkdir()
        artifact = onnx_nms.append_nms(artifact, spec, folder / "nms")
    if spec.layout == "ultralytics":
        (folder / "layout").mkdir()
        artifact = onnx_layout.as_ultralytics(artifact, spec, folder / "layout")
    if spec.input == "uint8_nhwc":
        (folder / "uint8").mkdir()
        artifact = onnx_uint8.take_uint8(artifact, spec, folder / "uint8")
    return artifact
