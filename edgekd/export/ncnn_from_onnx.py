"""ONNX to ncnn (`model.param`, `model.bin`) with pnnx, in an environment of its own: the package asks for torch, the
program in it does without."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgekd.export.contract import Artifact, Job, Source, register
from edgekd.export.environment import Requirements, python_of
from edgekd.export.mobile import (
    ConverterOptions,
    finish,
    fixed_only,
    output_names,
    run_converter,
    unconverted,
    wrong_machine,
)

NEEDS = Requirements("ncnn", ("pnnx==20261020",), dependencies=False, download="30 MB")
_MACHINES = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64"))


@register(
    "ncnn",
    source="onnx",
    target="ncnn",
    runtime="ncnn",
    precisions=("fp16", "fp32"),
    options_type=ConverterOptions,
    foresee=fixed_only,
    missing=lambda: wrong_machine("pnnx", _MACHINES),
    prepare=partial(python_of, NEEDS),
    untested={
        **unconverted(_MACHINES),
        "aarch64": "running on ARM",
        "Vulkan": "running with Vulkan",
    },
)
def export(source: Source | Artifact, job: Job, folder: Path) -> Artifact:
    """Write the graph and its weights, in float16 with precision fp16.

    Raises:
        InputError: an operator that ncnn lacks, a dynamic size, or a batch other than 1.
    """
    assert isinstance(source, Artifact), "the step 'ncnn' starts from ONNX"
    sidecar, spec = source.sidecar, job.spec
    more = {
        "shape": list(sidecar.input_shape),
        "half": spec.precision == "fp16",
        "input": sidecar.input_name,
        "outputs": output_names(sidecar),
    }
    result = run_converter(source, job, folder, NEEDS, "to_ncnn.py", **more)
    return finish(source, spec, folder, ("model.param", "model.bin"), result["tools"])
