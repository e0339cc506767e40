"""What an exporter takes and gives. One file per step, named `<target>_from_<source>.py`; ONNX is the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgekd.errors import InputError, unknown
from edgekd.export.outputs import LETTERBOX, Decode, Output
from edgekd.export.tolerance import Tolerance
from edgekd.files import path_fault
from edgekd.plain import value as shown
from edgekd.types import ByteArray

SIDECAR_NAME = "edgekd.json"
MOST_BATCH, MOST_PX = 4096, 8192
Edge = Annotated[int, Field(ge=1, le=MOST_PX)]
QUANTIZATION_NAME = "quantization.json"  # beside the sidecar of what was quantised
Runtime = Literal["onnxruntime", "openvino", "tensorrt", "ncnn", "litert", "executorch", "coreml"]
Precision = Literal["fp32", "fp16", "int8"]


class TargetSpec(BaseModel):
    """One YAML file in `export/`; a recipe may override its keys.

    Attributes:
        name: e.g. `onnx-fp32`.
        steps: exporters in order, e.g. `[onnx, openvino]`; the first starts from torch.
        runtime: runtime of the agent that runs the artifact.
        precision: of weights and layers.
        nms: whether detections leave the graph suppressed; end-to-end heads need none, and refuse it.
        input: float32 NCHW, scaled; or uint8 NHWC as cameras deliver it, scaled inside the graph.
        layout: of the outputs: boxes and scores apart, or in one as Ultralytics exports it and others expect it.
        options: per step, by name: what that step alone understands.
        batch: fixed batch size, or `dynamic`.
        opset: of the ONNX, also where that is only a stage on the way.
        simplify: run onnxslim (folds constants and shape arithmetic).
        parity_images: number of validation images that torch and the artifact are compared on.
        size: [height, width], `dynamic`, or None for the recipe's training size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    steps: tuple[str, ...] = Field(min_length=1, max_length=20)
    runtime: Runtime
    precision: Precision
    batch: int | Literal["dynamic"] = 1
    size: tuple[int, int] | Literal["dynamic"] | None = None
    opset: int = Field(17, ge=13, le=20)
    simplify: bool = True
    nms: Literal["outside", "in_graph"] = "outside"
    input: Literal["float32_nchw", "uint8_nhwc"] = "float32_nchw"
    layout: Literal["edgekd", "ultralytics"] = "edgekd"
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tolerance: Tolerance
    parity_images: int = Field(32, ge=1, le=100_000)

    @field_validator("batch", mode="before")
    @classmethod
    def _batch(cls, value: Any) -> Any:
        if value == "dynamic" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_BATCH):
            return value
        raise ValueError(f"must be a whole number of 1 to {MOST_BATCH}, or 'dynamic'")

    @field_validator("size", mode="before")
    @classmethod
    def _size(cls, value: Any) -> Any:
        pair = isinstance(value, (list, tuple)) and len(value) == 2
        if value in (None, "dynamic") or (pair and all(type(edge) is int and 1 <= edge <= MOST_PX for edge in value)):
            return value
        raise ValueError(f"must be [height, width] in pixels up to {MOST_PX}, 'dynamic' or null (the training size)")


class Suppression(BaseModel):
    """Thresholds of an NMS inside the graph: score and IoU (both exclusive), detections per image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conf: float = Field(0.001, ge=0, lt=1)
    iou: float = Field(0.7, gt=0, le=1)
    max_det: int = Field(300, ge=1, le=10_000)


class Sidecar(BaseModel):
    """`edgekd.json` beside every artifact (and the metadata inside an ONNX): all that a user of the file needs.

    Attributes:
        files: file name -> sha256; the first is the model that a runtime opens. Empty in the copy inside the model
            itself, which cannot hold its own hash.
        input_shape: [N, C, H, W], whatever the layout; None where dynamic.
        size_px: [H, W] that the artifact was made for and is measured at.
        layout, input_dtype, channel_order: of the model's input; images of a pack are RGB, and turned for BGR.
        decode: `dense` (outputs `boxes` (B, N, 4) xyxy px and `scores` (B, N, K)) or `end2end` (output `detections`
            (B, k, 6): x1 y1 x2 y2 score class, rows of score 0 are empty); with `layout: ultralytics` of the target
            `ultralytics` (output `output0` (B, 4 + K, N): x y w h px, scores) or `ultralytics_end2end` (`output0` as
            `detections`).
        outputs: each explained; empty in sidecars of older versions.
        scale: a float32 input is uint8 / scale; a uint8 input is scaled inside.
        letterbox: how an image of any size becomes an input, in words.
        size_multiple: height and width of an input are multiples of it.
        least_runtime: the lowest version of the runtime that reads the file; None where it is not known.
        nms: thresholds that are part of the graph; None where it has no NMS.
        build: what a runtime that builds its engine on the device has to know.
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
    input_shape: tuple[Edge | None, Edge, Edge | None, Edge | None]
    size_px: tuple[Edge, Edge]
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    input_dtype: Literal["float32", "uint8"] = "float32"
    channel_order: Literal["RGB", "BGR", "as_data"] = "RGB"
    scale: float = Field(default=255.0, gt=0, allow_inf_nan=False)
    pad_value: int = Field(default=114, ge=0, le=255)
    letterbox: str = LETTERBOX
    size_multiple: int | None = None
    least_runtime: str | None = None
    decode: Decode
    outputs: tuple[Output, ...] = ()
    nms: Suppression | None = None
    build: dict[str, Any] = Field(default_factory=dict)
    parent_sha256: str
    tools: dict[str, str]

    @field_validator("files")
    @classmethod
    def _names_are_plain(cls, files: dict[str, str]) -> dict[str, str]:
        """No file outside the folder, whatever its hash."""
        for name in files:
            if Path(name).name != name or name in ("", "..") or path_fault(name):
                raise ValueError(f"files: {shown(name)} is not a plain file name")
        return files

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


class NoOptions(BaseModel):
    """Of a step that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Material:
    """What a step may ask for beside the model.

    Attributes:
        calibration: the letterboxed train images, (n, H, W, C) uint8, of a count and a size [H, W].
        accuracy: AP of an artifact on labelled train images that calibration does not use.
        student_accuracy: AP of the float student there, in torch.
    """

    calibration: Callable[[int, tuple[int, int]], ByteArray]
    accuracy: Callable[[Artifact], float]
    student_accuracy: Callable[[], float]


@dataclass(frozen=True)
class Job:
    """What a step is asked to do.

    Attributes:
        spec: the target.
        options: of this step, of its `options_type`.
        material: None where a model is exported without its data set; steps that need it refuse.
    """

    spec: TargetSpec
    options: Any
    material: Material | None = None

    def needed(self) -> Material:
        """The material.

        Raises:
            InputError: there is none.
        """
        if self.material is None:
            raise InputError(f"{self.spec.name}: needs images of the train split; export it from a run directory")
        return self.material


Exporter = Callable[["Source | Artifact", Job, Path], Artifact]
Foresee = Callable[[Sidecar, Job], Iterable[str]]


@dataclass(frozen=True)
class Step:
    """A registered exporter and what `edgekd check` has to know of it.

    Attributes:
        name: as in `TargetSpec.steps`.
        source, target: what it takes and makes, e.g. `torch` and `onnx`; neighbours in a chain must fit.
        runtime: runtime of the agent that runs what it makes.
        precisions: what it can make.
        export: writes the artifact into an empty folder that exists.
        options_type: of what stands under its name in `TargetSpec.options`.
        foresee: why a job could not be done, one text each, from the sidecar of what it would start from (no hashes, no
            class names); a step that has none cannot tell before.
        missing: why this machine cannot do it, with the remedy; None if it can. Looks, and imports nothing heavy.
        prepare: makes, once, what it needs on this machine; EnvironmentFault where that cannot be had.
        untested: what was never executed by its authors: a word that evidence of it would have, of a place (`aarch64`,
            `Vulkan`), a maker (`made on darwin arm64`) or a library (`tensorrt 10`) -> what it is, in words.
    """

    name: str
    source: str
    target: str
    runtime: str
    precisions: tuple[str, ...]
    export: Exporter
    options_type: type[BaseModel] = NoOptions
    foresee: Foresee = lambda sidecar, job: ()
    missing: Callable[[], str | None] = lambda: None
    prepare: Callable[[], object] = lambda: None
    untested: Mapping[str, str] = field(default_factory=dict)


_REGISTRY: dict[str, Step] = {}


def register(
    name: str, *, source: str, target: str, runtime: str, precisions: tuple[str, ...], **more: Any
) -> Callable[[Exporter], Exporter]:
    """Function decorator that makes an exporter known to `TargetSpec.steps`. A second one under one name raises.

    Args:
        name, source, target, runtime, precisions, more: as in `Step`.
    """

    def add(exporter: Exporter) -> Exporter:
        if name in _REGISTRY:
            raise ValueError(f"exporter '{name}' is registered twice")
        _REGISTRY[name] = Step(name, source, target, runtime, precisions, exporter, **more)
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
