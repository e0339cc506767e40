"""ONNX to Core ML (`model.mlpackage.zip`): through torch, with coremltools, in an environment of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgekd.export.artifacts import METADATA_KEY, metadata
from edgekd.export.contract import Artifact, Job, Source, register
from edgekd.export.engine_metadata import engine_metadata
from edgekd.export.environment import Requirements, python_of
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

# Newer numpy refuses the one-element arrays that the library takes for numbers.
NEEDS = Requirements("coreml", (TORCH, "coremltools==9.0", "numpy<2.4", "onnx>=1.16"), download=TORCH_DOWNLOAD)
_MACHINES = (("linux", "x86_64"), ("darwin", "x86_64"), ("darwin", "arm64"))


@register(
    "coreml",
    source="onnx",
    target="coreml",
    runtime="coreml",
    precisions=("fp16", "fp32"),
    options_type=ConverterOptions,
    foresee=fixed_only,
    missing=lambda: wrong_machine("coremltools", _MACHINES),
    prepare=partial(python_of, NEEDS),
    untested={
        **unconverted(_MACHINES),
        BEYOND: "running it: Core ML is part of Apple's systems; it was converted on Linux x86_64",
    },
)
def export(source: Source | Artifact, job: Job, folder: Path) -> Artifact:
    """Write an ML program for iOS 16 and macOS 13 on; with precision fp16, its decoding stays float32.

    Raises:
        InputError: an operator without translation, a dynamic size, or a batch other than 1.
    """
    assert isinstance(source, Artifact), "the step 'coreml' starts from ONNX"
    spec = job.spec
    for_engine = engine_metadata(source.sidecar.model_copy(update={"runtime": "coreml"}))
    more = {"precision": spec.precision, "metadata": {METADATA_KEY: metadata(source.sidecar), **for_engine}}
    result = run_converter(source, job, folder, NEEDS, "to_coreml.py", **more)
    return finish(source, spec, folder, ("model.mlpackage.zip",), result["tools"])
