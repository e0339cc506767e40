"""What an ONNX file says of itself, and what a JSON of the same name beside it says: the convention of its images, what
its outputs mean, its classes. The JSON comes first.

edgekd's own artifacts carry their sidecar inside, exports of YOLO name their classes; other files say nothing.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgekd.errors import InputError
from edgekd.files import read_text

Kind = Literal["columns", "scores", "rows", "detections"]
_OWN, _NAMES = "edgekd", "names"  # keys of an ONNX file's metadata
_OWN_KINDS: dict[str, tuple[Kind, Literal["xyxy", "cxcywh"]]] = {
    "dense": ("scores", "xyxy"), "end2end": ("rows", "xyxy"),
    "ultralytics": ("columns", "cxcywh"), "ultralytics_end2end": ("rows", "xyxy"),
}  # fmt: skip
GRID = (8, 16, 32)  # strides of the points of heads whose exports bear the second key


class Facts(BaseModel):
    """How to use a model. The keys are those of the JSON beside it.

    Attributes:
        classes: names, in the order of its scores.
        colours: order of its input channels.
        highest: value of a white pixel, before `mean` and `std`.
        mean, std: per channel, in the order of `colours`; inputs are (pixel - mean) / std.
        output: what its outputs are, see `outputs.py`; None: found from their shapes.
        boxes: corners, or centre and size.
        normalised: boxes are shares of the input's width and height, not pixels.
        first_class: what it calls its first class, where outputs are class numbers.
        strides, offset: of the points that dense outputs belong to, finest level first, in order; without them it
            teaches by its detections alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    classes: list[str] | None = Field(None, min_length=1)
    colours: Literal["rgb", "bgr"] = "rgb"
    highest: float = Field(1.0, gt=0, le=65_535)
    mean: list[float] = Field(default_factory=lambda: [0.0], min_length=1)
    std: list[float] = Field(default_factory=lambda: [1.0], min_length=1)
    output: Kind | None = None
    boxes: Literal["xyxy", "cxcywh"] | None = None
    normalised: bool = False
    first_class: int = Field(0, ge=0, le=1000)
    strides: list[int] | None = Field(None, min_length=1)
    offset: float = Field(0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _sound(self) -> Facts:
        if min(self.std) <= 0:
            raise ValueError("std: must be above 0")
        if self.strides is not None and (self.strides != sorted(set(self.strides)) or self.strides[0] < 1):
            raise ValueError("strides: must rise from 1 on")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: a name stands there twice")
        return self


def read(path: Path, metadata: Mapping[str, str], where: str) -> tuple[Facts, bool]:
    """The facts of a model, and whether it may have the points of `GRID`.

    Args:
        metadata: of the ONNX file.
        where: key of the recipe, for messages.

    Raises:
        InputError: the JSON beside it cannot be read, or says what cannot be.
    """
    beside = path.with_suffix(".json")
    said: Any = {}
    if beside.is_file():
        try:
            said = json.loads(read_text(beside))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{where}: {beside} cannot be read ({error}); correct it, or move it away") from None
        if not isinstance(said, dict):
            raise InputError(f'{where}: {beside} must be an object such as {{"classes": ["cat"]}}; correct it')
    try:
        facts = Facts.model_validate({**_embedded(metadata), **said})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the file"
        known = ", ".join(Facts.model_fields)
        raise InputError(f"{where}: {beside}: {place}: {fault['msg']}; keys are {known}: correct it") from None
    return facts, _NAMES in metadata and _OWN not in metadata and facts.strides is None


def _embedded(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Facts in the file's own metadata; what cannot be read there counts as not said."""
    try:
        if _OWN in metadata:
            return _of_sidecar(json.loads(metadata[_OWN]))
        if _NAMES in metadata:
            names = ast.literal_eval(metadata[_NAMES])  # of a dict: {0: 'person', ...}
            return {"classes": [str(names[number]) for number in range(len(names))]}
    except (ValueError, SyntaxError, LookupError, TypeError, RecursionError, MemoryError):
        pass
    return {}


def _of_sidecar(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    output, boxes = _OWN_KINDS[sidecar["decode"]]
    return {
        "classes": list(sidecar["class_names"]), "output": output, "boxes": boxes,
        "colours": "bgr" if sidecar.get("channel_order") == "BGR" else "rgb",
        "highest": 255.0 / float(sidecar.get("scale", 255.0)),
    }  # fmt: skip
