"""What an artifact gives and how its input is made, in words: for those who use the file without edgekd."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Decode = Literal["dense", "end2end", "ultralytics", "ultralytics_end2end"]
LETTERBOX = (
    "ratio = min(H / h, W / w) of the input's size and the image's; the image is resized to round(h * ratio) x "
    "round(w * ratio), at least 1 each, bilinear with pixel centres at 0.5, no anti-aliasing; it is put "
    "round((H - resized height) / 2 - 0.1) px below the top and round((W - resized width) / 2 - 0.1) px from the left; "
    "the rest is pad_value; round() takes halves to the even number"
)
_PIXELS = "px of the letterboxed input: x to the right, y down, (0, 0) is the upper left corner of the first pixel"
_SHARE = "0 to 1, after the sigmoid"
_BOXES = {
    "meaning": "[image, point, edge]: box x1 y1 x2 y2 of every point of the network, before threshold and NMS",
    "units": "px",
    "coordinates": _PIXELS,
}
_SCORES = {
    "meaning": "[image, point, class]: scores of the box in the same row of boxes; classes as in class_names",
    "units": _SHARE,
    "coordinates": "none",
}
_RANKED = {
    "meaning": "[image, row, value]: x1 y1 x2 y2 score class, best first; class is a place in class_names; rows of "
    "score 0 are empty; no further NMS",
    "units": f"px (4 values), {_SHARE}, index",
    "coordinates": _PIXELS,
}
_COLUMNS = {
    "meaning": "[image, value, point]: centre x, centre y, width, height, then one score per class as in class_names, "
    "of every point of the network, before threshold and NMS",
    "units": f"px (4 values), {_SHARE}",
    "coordinates": _PIXELS,
}
# The release that first had an opset of ONNX: https://onnxruntime.ai/docs/reference/compatibility.html
_ONNXRUNTIME = {13: "1.7", 14: "1.8", 15: "1.10", 16: "1.11", 17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17"}
# The same of OpenVINO's own: https://docs.openvino.ai, "Available Operation Sets". Up to 8: all that read IR 11.
_OPENVINO = {
    8: "2022.1", 9: "2022.2", 10: "2022.3", 11: "2023.0", 12: "2023.1", 13: "2023.2", 14: "2024.0", 15: "2024.5",
}  # fmt: skip
_TENSORRT = "8.6"


class Output(BaseModel):
    """One output of a model.

    Attributes:
        shape: a name stands for a size that is free.
        meaning: axis by axis.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    meaning: str
    units: str
    coordinates: str


def describe(decode: Decode, graph: Any) -> tuple[Output, ...]:
    """The outputs of an `onnx.GraphProto`, explained."""
    return tuple(
        Output(name=output.name, shape=_shape(output), dtype=_dtype(output), **_words(decode, output.name))
        for output in graph.output
    )


def least_onnx_runtime(runtime: str, opset: int) -> str | None:
    """The lowest version of a runtime that reads ONNX of this opset; None for runtimes that read no ONNX."""
    if runtime == "tensorrt":
        return f"tensorrt {_TENSORRT}"
    return f"onnxruntime {_ONNXRUNTIME[opset]}" if runtime == "onnxruntime" and opset in _ONNXRUNTIME else None


def least_openvino(opsets: Iterable[str]) -> str | None:
    """The lowest version of OpenVINO that has these opsets (`opset1` ...) and reads IR version 11; None: not known."""
    newest = max(int(name.removeprefix("opset")) for name in opsets if name.startswith("opset"))
    version = _OPENVINO.get(max(newest, min(_OPENVINO)))
    return version and f"openvino {version}"


def _words(decode: Decode, name: str) -> dict[str, str]:
    if decode == "dense":
        return _SCORES if name == "scores" else _BOXES
    return _COLUMNS if decode == "ultralytics" else _RANKED


def _shape(output: Any) -> tuple[int | str, ...]:
    return tuple(size.dim_value or size.dim_param or "any" for size in output.type.tensor_type.shape.dim)


def _dtype(output: Any) -> str:
    from onnx import helper

    return str(helper.tensor_dtype_to_np_dtype(output.type.tensor_type.elem_type))
