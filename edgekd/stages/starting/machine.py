"""What fits this machine and the data: image size, batch, workers, epochs; and what runs on the device."""

from __future__ import annotations

import math
import os

from edgekd.cores import usable_cores
from edgekd.devices.contract import DeviceSpec
from edgekd.recipe.instead import MEANT
from edgekd.stages.listing import list_targets
from edgekd.stages.starting.data import Shape
from edgekd.stages.starting.text import Line

_STEP_PX, _USUAL_PX, _USUAL_CPU_PX, _MOST_PX = 32, 640, 320, 1280
_SMALLEST_PX = 8  # of an object: one cell of the finest usual map
_GIB_PER_IMAGE = 0.5  # of 640 px: student and teacher, a guess on the safe side
_USUAL_BATCH = 16
_CPU_STEPS = 1500
_USUAL_EPOCHS, _MOST_EPOCHS = 100, 300
_RUNTIMES = {
    "onnxruntime": "onnx", "openvino": "openvino", "tensorrt": "tensorrt", "ncnn": "ncnn", "litert": "litert",
    "executorch": "executorch", "coreml": "coreml",
}  # fmt: skip


def gpu_gib() -> float | None:
    """Memory of the first GPU; None without one."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else None


def train(shape: Shape, gpu: float | None, least_px: int) -> list[Line]:
    """The section `train:`.

    Args:
        gpu: its memory in GiB; None: a CPU trains.
        least_px: image sizes that the detectors take are multiples of it.
    """
    size_px, why_size = image_size(shape, gpu is not None, least_px)
    batch, why_batch = batch_size(shape, gpu, size_px)
    epochs, why_epochs = epoch_count(shape, batch, gpu is not None)
    cores = usable_cores()
    workers = min(8, cores) if gpu is not None else max(1, cores // 2)
    spare = "to feed the GPU" if gpu is not None else "the others compute"
    few = [] if gpu is not None else [Line("nbs", batch, "one update per batch: the steps are few")]
    return [
        Line("imgsz", size_px, why_size),
        Line("epochs", epochs, why_epochs),
        Line("batch", batch, why_batch),
        *few,
        Line("workers", workers, f"of {cores} cores, {spare}"),
    ]


def image_size(shape: Shape, has_gpu: bool, multiple_px: int = _STEP_PX) -> tuple[int, str]:
    """Side in px, and why: the images', up to a usual size, unless objects would be lost."""
    step = math.lcm(_STEP_PX, multiple_px)
    usual = _USUAL_PX if has_gpu else _USUAL_CPU_PX
    whole = math.ceil(shape.long_side_px / step) * step
    size = min(whole, usual)
    why = f"9 in 10 images are at most {shape.long_side_px} px"
    if whole > usual:
        why += f"; {usual} is usual {'on a GPU' if has_gpu else 'without a GPU, where time grows with the square'}"
    if shape.object_px and whole > size:
        needed = math.ceil(_SMALLEST_PX / shape.object_px * shape.long_side_px / step) * step
        if needed > size:
            size = min(needed, whole, _MOST_PX)
            why += (
                f"; a quarter of the objects are below {shape.object_px:.0f} px there, and should keep {_SMALLEST_PX}"
            )
    return size, why


def batch_size(shape: Shape, gpu: float | None, size_px: int) -> tuple[int, str]:
    """Images per step that memory and the data allow."""
    memory = gpu if gpu is not None else _free_gib()
    fits = memory / (_GIB_PER_IMAGE * (size_px / _USUAL_PX) ** 2)
    batch = 1
    while batch * 2 <= min(fits, _USUAL_BATCH, max(shape.train // 2, 1)):
        batch *= 2
    where = "of the GPU" if gpu is not None else "free"
    return (
        batch,
        f"{memory:.0f} GiB {where}, of which an image is taken to need {fits and memory / fits:.2f} at {size_px} px",
    )


def epoch_count(shape: Shape, batch: int, has_gpu: bool) -> tuple[int, str]:
    """The engine's default; without a GPU as many as make some 1,500 steps."""
    if has_gpu:
        return _USUAL_EPOCHS, "the engine's default; the report's curves show whether more would help"
    steps = max(1, math.ceil(shape.train / batch))
    epochs = min(_MOST_EPOCHS, max(5, round(_CPU_STEPS / steps)))
    return epochs, f"no GPU here: {epochs * steps:,} steps of {steps:,} an epoch; more, if the curves still rise"


def targets(device: DeviceSpec) -> list[Line]:
    """One target for each runtime of the device that can be made here."""
    rows = {row["target"]: row for row in list_targets()}
    found = []
    for runtime in (one for one in device.runtimes if one not in device.optional):
        name = MEANT["export"].get(_RUNTIMES.get(runtime, runtime))
        row = rows.get(name or "")
        if name is None or row is None or row["cannot_make"]:
            continue
        if device.transport == "local" and row["cannot_run"]:
            continue
        found.append(Line("", name, f"{device.name} has {runtime}; {row['precision']}, the safest there"))
    return found


def _free_gib() -> float:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (ValueError, OSError):
        return 8.0
