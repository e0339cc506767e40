"""ONNX to ExecuTorch (`model.pte`) for its XNNPACK backend: through torch, in an environment of its own.

The agent has no runtime for it (the library's needs torch), so the converter runs the program once, on a train image.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

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
    sample_images,
    unconverted,
    wrong_machine,
)
from edgekd.progress import say

NEEDS = Requirements("executorch", (TORCH, "executorch==1.5.1", "onnx>=1.16"), download=TORCH_DOWNLOAD)
_MACHINES = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))


@register(
    "executorch",
    source="onnx",
    target="executorch",
    runtime="executorch",
    precisions=("fp32",),
    options_type=ConverterOptions,
    foresee=fixed_only,
    missing=lambda: wrong_machine("executorch", _MACHINES),
    prepare=partial(python_of, NEEDS),
    untested={
        **unconverted(_MACHINES),
        BEYOND: "running on a phone; it ran in the library's own runtime on Linux x86_64",
    },
)
def export(source: Source | Artifact, job: Job, folder: Path) -> Artifact:
    """Write the program and compare one run of it with the ONNX.

    Raises:
        InputError: an operator without translation, a dynamic size, a batch other than 1; or scores or boxes that are
            out of the target's tolerance.
    """
    assert isinstance(source, Artifact), "the step 'executorch' starts from ONNX"
    spec, sidecar = job.spec, source.sidecar
    path = folder / "images.npy"
    np.save(path, model_input(sample_images(job, 1, sidecar), sidecar))
    result = run_converter(source, job, folder, NEEDS, "to_executorch.py", images=str(path.absolute()))
    path.unlink()
    found = result["max_abs"]
    say(f"{spec.name}: ran in its own runtime; differs from the ONNX by {_shown(found)} on one image")
    limits = {"scores": spec.tolerance.max_abs_score, "boxes": spec.tolerance.max_abs_box_px}
    for name, limit in limits.items():
        if limit is not None and not found.get(name, 0.0) <= limit:
            raise InputError(
                f"{spec.name}: {name} differ by {found[name]:.3g} from the ONNX, tolerance {limit:g}; choose another "
                "target, or raise the tolerance if the accuracy bears it"
            )
    return finish(source, spec, folder, ("model.pte",), result["tools"])


def _shown(differences: dict[str, float]) -> str:
    return ", ".join(f"{value:.1e} ({name})" for name, value in differences.items())
