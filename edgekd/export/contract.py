"""What an exporter takes and gives. One file per step, named `<target>_from_<source>.py`; ONNX is the hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgekd.errors import unknown

SIDECAR_NAME = "edgekd.json"


class Tolerance(BaseModel):
    """How far an artifact may be from the torch student on real images.

    Attributes:
        max_abs_score: largest absolute difference of a score.
        max_abs_box_px: largest absolute difference of a box edge, over boxes that score at least 0.05 in torch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_abs_score: float = Field(gt=0)
    max_abs_box_px: float = Field(gt=0)


class TargetSpec(BaseModel):
    """One YAML file in `export/`; a recipe may override its keys.

    Attributes:
        name: e.g. `onnx-fp32`.
        steps: exporters in order, e.g. `[onnx, openvino]`; the first starts from torch.
        runtime: runtime of the agent that runs the artifact.
        precision: fp32 or fp16.
        batch: fixed batch size, or `dynamic`.
        opset: of the ONNX, also where that is only a stage on the way.
        simplify: run onnxslim (folds constants and shape arithmetic).
        parity_images: number of validation images that torch and the artifact are compared on.
        size: [height, width], `dynamic`, or None for the recipe's training size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    steps: tuple[str, ...] = Field(min_length=1)
    runtime: Literal["onnxruntime", "openvino"]
    precision: Literal["fp32", "fp16"]
    batch: int | Literal["dynamic"] = 1
    size: tuple[int, int] | Literal["dynamic"] | None = None
    opset: int = Field(17, ge=13, le=20)
    simplify: bool = True
    tolerance: Tolerance
    parity_images: int = Field(32, ge=1)

    @field_validator("batch", mode="before")
    @classmethod
    def _batch(cls, value: Any) -> Any:
        if value == "dynamic" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            return value
        raise ValueError("must be a whole number of at least 1, or 'dynamic'")

    @field_validator("size", mode="before")
    @classmethod
    def _size(cls, value: Any) -> Any:
        pair = isinstance(value, (list, tuple)) and len(value) == 2
        if value in (None, "dynamic") or (pair and all(type(edge) is int and edge >= 1 for edge in value)):
            return value
        raise ValueError(f"must be [height, width] in pixels, 'dynamic' or null (the training size), got {value!r}")


class Sidecar(BaseModel):
    """`edgekd.json` beside every artifact (and the metadata inside an ONNX): all that a user of the file needs.

    Attributes:
        files: file name -> sha256; the first is the model that a runtime opens. Empty in the copy inside the model
            itself, which cannot hold its own hash.
        input_shape: [N, C, H, W]; None where dynamic.
        size_px: [H, W] that the artifact was made for and is measured at.
        decode: `dense` (outputs `boxes` (B, N, 4) xyxy px and `scores` (B, N, K)) or `end2end` (output `detections`
            (B, k, 6): x1 y1 x2 y2 score class).
        scale: input = uint8 / scale, RGB, NCHW float32.
        parent_sha256: hash of the student's weights file, whatever steps lie between.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["edgekd.artifact/1"] = "edgekd.artifact/1"
    target: str
    runtime: str
    precision: str
    files: dict[str, str]
    class_names: tuple[str, ...]
    input_name: str = "images"
    input_shape: tuple[int | None, int, int | None, int | None]
    size_px: tuple[int, int]
    layout: Literal["NCHW"] = "NCHW"
    channel_order: Literal["RGB", "as_data"] = "RGB"
    scale: float = 255.0
    pad_value: int = 114
    decode: Literal["dense", "end2end"]
    parent_sha256: str
    tools: dict[str, str]

    def model_file(self) -> str:
        """Name of the file that a runtime opens."""
        return next(iter(self.files))


@dataclass(frozen=True)
class Artifact:
    """An exported model: a folder with its files and `edgekd.json`."""

    folder: Path
    sidecar: Sidecar

    @property
    def model_path(self) -> Path:
        """The file that a runtime opens."""
        return self.folder / self.sidecar.model_file()


@dataclass(frozen=True)
class Source:
    """What the first exporter starts from.

    Attributes:
        module: `Detector.export_module(...)`, in eval mode, fp32, on the CPU.
        decode: as in `Sidecar`.
        class_names, channels: of the data set.
        size_px: [H, W] to make and measure it at.
        size_multiple: of the detector.
        sha256: hash of the student's weights file.
    """

    module: Any
    decode: Literal["dense", "end2end"]
    class_names: tuple[str, ...]
    channels: int
    size_px: tuple[int, int]
    size_multiple: int
    sha256: str


Exporter = Callable[["Source | Artifact", TargetSpec, Path], Artifact]


@dataclass(frozen=True)
class Step:
    """A registered exporter and what `edgekd check` has to know of it.

    Attributes:
        name: as in `TargetSpec.steps`.
        source, target: what it takes and makes, e.g. `torch` and `onnx`; neighbours in a chain must fit.
        runtime: runtime of the agent that runs what it makes.
        precisions: what it can make.
        export: writes the artifact into an empty folder that exists.
    """

    name: str
    source: str
    target: str
    runtime: str
    precisions: tuple[str, ...]
    export: Exporter


_REGISTRY: dict[str, Step] = {}


def register(
    name: str, *, source: str, target: str, runtime: str, precisions: tuple[str, ...]
) -> Callable[[Exporter], Exporter]:
    """Function decorator that makes an exporter known to `TargetSpec.steps`. A second one under one name raises."""

    def add(exporter: Exporter) -> Exporter:
        if name in _REGISTRY:
            raise ValueError(f"exporter '{name}' is registered twice")
        _REGISTRY[name] = Step(name, source, target, runtime, precisions, exporter)
        return exporter

    return add


def step(name: str) -> Step:
    """The exporter of one step.

    Raises:
        KeyError: with the text for the user.
    """
    import edgekd.export.exporters  # noqa: F401  (registers every exporter)

    if name not in _REGISTRY:
        raise KeyError(unknown("export step", name, _REGISTRY))
    return _REGISTRY[name]
