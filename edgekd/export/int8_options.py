"""What the two steps that quantise after training understand alike."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Int8Options(BaseModel):
    """Under `options: {<step>: ...}` of a target."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calibration_images: int = Field(
        128, ge=1, description="images of the train split that the ranges of values are taken from"
    )
    sensitivity_images: int = Field(
        8, ge=0, description="of these, how many each layer's share of the error is measured on; 0 with max_drop: null"
    )
    max_drop: float | None = Field(
        0.005,
        ge=0,
        le=1,
        description="AP that the artifact may lose on train images; layers go back to float until it does; null: any",
    )
    max_float_share: float = Field(
        0.5, ge=0, le=1, description="largest share of the layers that may go back to float for max_drop"
    )
    ignore: tuple[str, ...] = Field((), description="layers that stay float in any case: names, or patterns with *")

    @model_validator(mode="after")
    def _ranked(self) -> Int8Options:
        if self.max_drop is not None and not self.sensitivity_images:
            raise ValueError("sensitivity_images: 0 leaves max_drop without an order of layers; set max_drop: null")
        return self


class QdqOptions(Int8Options):
    """Of `onnx-int8`."""

    scheme: Literal["ort", "trt"] = Field(
        "ort",
        description="ort: uint8 values between all operators; trt: int8 and symmetric, before layers only, as TensorRT "
        "fuses them",
    )
    activations: Literal["uint8", "int8"] | None = Field(
        None, description="null: what the scheme prefers (ort: uint8, trt: int8, symmetric)"
    )
    weights: Literal["int8", "uint8"] = Field("int8", description="of the weights; trt: int8 only")
    per_channel: bool = Field(True, description="a scale per output channel of the weights")
    operators: Literal["all", "layers"] = Field(
        "all", description="ort: quantise what lies between the layers, too; trt: layers in any case"
    )
    calibration: Literal["percentile", "minmax", "entropy"] = Field("percentile", description="how ranges are found")
    percentile: float = Field(99.999, gt=50, le=100, description="of calibration: percentile")


class NncfOptions(Int8Options):
    """Of `openvino-int8`."""

    activations: Literal["asymmetric", "symmetric"] = Field("asymmetric", description="zero point of the values")
    calibration: Literal["minmax", "mean"] = Field(
        "minmax", description="ranges of values: extremes over all images, or means of each image's extremes"
    )
    bias_correction: Literal["fast", "full", "off"] = Field(
        "full", description="shift biases by the mean error of their layer; fast looks at each layer alone"
    )
