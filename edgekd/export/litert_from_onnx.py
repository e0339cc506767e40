"""ONNX to LiteRT (`model.tflite`): through torch, with litert-torch, in an environment of its own.

The other way, onnx2tf, needs TensorFlow and finds out by trial runs which axis is which: it made a wrong model of one
of two students, without a word (docs/export-mobile.md). This one keeps ONNX's results to rounding.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from edgekd.agent.runtimes import unusable
from edgekd.errors import InputError
from edgekd.export.contract import Artifact, Job, Source, register
from edgekd.export.environment import Requirements, python_of
from edgekd.export.inputs import model_input
from edgekd.export.mobile import (
    BEYOND,
    TORCH,
    TORCH_DOWNLOAD,
    ConverterOptions,
    finish,
    fixed_only,
    run_converter,
    unconverted,
    wrong_machine,
)
from edgekd.progress import say

NEEDS = Requirements(
    "litert",
    (TORCH, "litert-torch==0.10.0", "ai-edge-litert==2.3.0", "ai-edge-quantizer==0.10.0", "onnx>=1.16"),
    download=TORCH_DOWNLOAD,
)
_MACHINES = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))


class LitertOptions(ConverterOptions):
    """Under `options: {litert: ...}` of a target."""

    calibration_images: int = Field(128, ge=1, description="int8: train images that ranges of values are taken from")
    max_drop: float | None = Field(
        0.005, ge=0, le=1, description="int8: AP that the artifact may lose on train images; null: any"
    )


@register(
    "litert",
    source="onnx",
    target="litert",
    runtime="litert",
    precisions=("fp32", "fp16", "int8"),
    options_type=LitertOptions,
    foresee=fixed_only,
    missing=lambda: wrong_machine("litert-torch", _MACHINES),
    prepare=partial(python_of, NEEDS),
    untested={
        **unconverted(_MACHINES),
        "aarch64": "running on ARM",
        "GPU delegate": "running on the GPU delegate",
        BEYOND: "running on delegates of neural processors",
    },
)
def export(source: Source | Artifact, job: Job, folder: Path) -> Artifact:
    """Write the model; its input is (1, H, W, C), its outputs are float32 in every precision.

    fp16 has the weights of layers in float16. int8 has 8 bits for weights and values of everything that leads to a
    layer; the last layers, and what decodes them, stay float32.

    Raises:
        InputError: an operator without translation, a dynamic size, a batch other than 1; int8 that loses more than
            `max_drop`.
    """
    assert isinstance(source, Artifact), "the step 'litert' starts from ONNX"
    spec, sidecar = job.spec, source.sidecar
    more: dict[str, Any] = {"precision": spec.precision, "layout": sidecar.layout}
    if spec.precision == "int8":
        more |= _calibration(source, job, folder)
    result = run_converter(source, job, folder, NEEDS, "to_litert.py", **more)
    (folder / "images.npy").unlink(missing_ok=True)
    artifact = finish(source, spec, folder, ("model.tflite",), result["tools"], layout="NHWC")
    if spec.precision == "int8":
        _require_accuracy(artifact, job)
    return artifact


def _calibration(source: Artifact, job: Job, folder: Path) -> dict[str, Any]:
    sidecar = source.sidecar
    images = job.needed().calibration(job.options.calibration_images, sidecar.size_px)
    pixels = model_input(images, sidecar.model_copy(update={"layout": "NHWC", "input_dtype": "uint8"}))
    path = folder / "images.npy"
    np.save(path, pixels)
    scale = None if sidecar.input_dtype == "uint8" else sidecar.scale
    return {"images": str(path.absolute()), "scale": scale, "threads": 1}


def _require_accuracy(artifact: Artifact, job: Job) -> None:
    where, limit = job.spec.name, job.options.max_drop
    if limit is None:
        return
    reason = unusable("litert")
    if reason:
        say(f"{where}: max_drop is not checked: {reason}")
        return
    material = job.needed()
    before, after = material.student_accuracy(), material.accuracy(artifact)
    say(f"{where}: AP {after:.4f} on train images, in float {before:.4f}")
    if after < before - limit:
        raise InputError(
            f"{where}: options.litert.max_drop: 8 bits cost {before - after:.4f} AP on train images, allowed are "
            f"{limit:g}; train the student for 8 bits (in the recipe, quantize: {{mode: qat}}), use litert-fp16, "
            "or raise max_drop"
        )
