"""What the steps share that leave ONNX for a converter in an environment of its own."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgekd.errors import InputError
from edgekd.export.artifacts import seal
from edgekd.export.contract import Artifact, Job, Sidecar, TargetSpec
from edgekd.export.engine_metadata import append_to, write_beside
from edgekd.export.environment import Requirements, convert
from edgekd.progress import progress

BEYOND = "beyond edgekd"  # in `Step.untested`: nothing of edgekd runs it there, so no file can have this word
TORCH = "torch==2.13.0"  # the one that all converters that go through torch were tried with
_OPENED_AS_FOLDERS = ("ncnn", "executorch")  # by Ultralytics, under names such as x_ncnn_model
TORCH_DOWNLOAD = "about 1 GB, more where pip finds a torch with CUDA"


class ConverterOptions(BaseModel):
    """Of every step that runs a converter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_s: float = Field(1800, gt=0, description="the converter is stopped after so many seconds")


def run_converter(source: Artifact, job: Job, folder: Path, needs: Requirements, script: str, **more: Any) -> Any:
    """What a converter hands back; it leaves its files in `folder`.

    Raises:
        InputError: batch or size of the target are not fixed, or the converter does not support the model.
        EnvironmentFault: the environment cannot be made, or the converter fails.
    """
    problems = [f"{job.spec.name}: {problem}" for problem in fixed_only(source.sidecar, job)]
    if problems:
        raise InputError(*problems)
    request = {"onnx": str(source.model_path.absolute()), "target": job.spec.name, **more}
    with progress(f"{job.spec.name}: {script}", 1) as advance:
        result = convert(needs, script, request, folder, job.options.timeout_s)
        advance()
    return result


def finish(
    source: Artifact, spec: TargetSpec, folder: Path, files: Sequence[str], tools: dict[str, str], **changes: Any
) -> Artifact:
    """Seal what a converter left, with a word to Ultralytics. The names of in- and outputs are the ONNX's."""
    sidecar = source.sidecar.model_copy(
        update={
            "target": spec.name,
            "runtime": spec.runtime,
            "precision": spec.precision,
            "tools": {**source.sidecar.tools, **tools},
            "least_runtime": None,
            **changes,
        }
    )
    for name in files:
        if name.endswith(".tflite"):
            append_to(folder / name, sidecar)
    beside = [write_beside(folder, sidecar)] if spec.runtime in _OPENED_AS_FOLDERS else []
    return seal(folder, (*files, *beside), sidecar)


def output_names(sidecar: Sidecar) -> list[str]:
    """Of the hub's ONNX, in order."""
    return ["detections"] if sidecar.decode == "end2end" else ["boxes", "scores"]


def sample_images(job: Job, count: int, sidecar: Sidecar) -> Any:
    """(count, H, W, C) uint8: train images, or noise where a model is exported without its data set."""
    if job.material is not None:
        return job.material.calibration(count, sidecar.size_px)
    shape = (count, *sidecar.size_px, sidecar.input_shape[1])
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def wrong_machine(name: str, machines: Sequence[tuple[str, str]]) -> str | None:
    """Why a converter cannot run here: there are builds of it for the given (system, machine) pairs alone."""
    if os.name != "posix":
        return f"{name}: converters run on Linux and macOS; export there, and copy the artifact"
    if (sys.platform, platform.machine()) in machines:
        return None
    known = ", ".join(f"{system} {machine}" for system, machine in machines)
    return f"{name}: there is no converter for {sys.platform} {platform.machine()} (only for {known}); export there"


def unconverted(machines: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Of a converter's machines those where nobody converted, as `Step.untested` has them: all but Linux x86_64."""
    others = [f"{system} {machine}" for system, machine in machines if (system, machine) != ("linux", "x86_64")]
    return {f"made on {name}": f"conversion on {name}" for name in others}


def fixed_only(sidecar: Sidecar, job: Job) -> Iterator[str]:
    """Why a converter would refuse a batch or size, which must be fixed."""
    name = job.spec.steps[-1]
    if sidecar.input_shape[0] != 1:
        yield f"batch: is {job.spec.batch}, but {name} takes one image at a time; set batch: 1"
    if None in sidecar.input_shape[2:]:
        yield f"size: is dynamic, but {name} needs a fixed one; set [height, width], or null"
