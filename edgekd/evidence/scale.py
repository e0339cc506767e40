"""How large the experiments are: in full, for hardware, or in miniature, the whole list on a CPU in minutes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekd.errors import InputError, unknown

Amp = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Scale:
    """Sizes of everything; no experiment has numbers of its own.

    Attributes:
        name: as in the file.
        device: what is trained on: `cuda` or `cpu`.
        tests: what pytest is told to run.
        collected: what it is told to collect before; empty: nothing.
        student, teacher: models of the timed steps, with random weights, on images of `step_px`, `batch` at a time.
        rounds, warm_up_steps: of timed steps.
        amps: number formats of the student's step, the most usual first.
        compiled: runtime and precision of teachers that are not eager, each timed beside the eager one in `amps[0]`.
        ap_px: of the embedded data set where accuracy is measured: what the shipped weights were trained at.
        ap_images: validation images there; as many train images calibrate 8 bits.
        latency_px: of artifacts that are only timed.
        targets: made and run on the device; empty: all that it can run.
        pairs: of targets that are compared by intervals, reference and candidate; those that the device can run.
        looks: processes after which a comparison is decided, or left open.
        epochs, images: of trainings that are compared bit by bit, of `ap_px`.
        gain_epochs, gain_images, gain_seeds: of the gain table.
        side_by_side: trainings of the gain table at once.
        power_s: seconds of full load, watched by the sensors.
        sustained_minutes: of an artifact on a device that is not this machine.
        profile_minutes: of every other latency, in one process; None: the protocol `quick`.
        wait_s: for a quiet device, each time.
    """

    name: str
    device: str
    tests: tuple[str, ...]
    collected: tuple[str, ...]
    student: str
    teacher: str
    step_px: int
    batch: int
    rounds: int
    warm_up_steps: int
    amps: tuple[Amp, ...]
    compiled: tuple[tuple[str, str | None], ...]
    ap_px: int
    ap_images: int
    latency_px: int
    targets: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    looks: tuple[int, ...]
    epochs: int
    images: int
    gain_epochs: int
    gain_images: int
    gain_seeds: tuple[int, ...]
    side_by_side: int
    power_s: float
    sustained_minutes: float
    profile_minutes: float | None
    wait_s: float


FULL = Scale(
    name="full", device="cuda", tests=("-m", "gpu", "tests"), collected=(),
    student="yolo11n", teacher="yolo11x", step_px=640, batch=16, rounds=15, warm_up_steps=5,
    amps=("fp16", "fp32", "bf16"), compiled=(("compile", None), ("compile", "fp16")),
    ap_px=96, ap_images=200, latency_px=640, targets=(),
    pairs=(
        ("tensorrt-fp16", "tensorrt-int8"), ("openvino-fp16", "openvino-int8"), ("onnx-fp16", "onnx-int8"),
        ("litert-fp32", "litert-int8"),
    ),
    looks=(6, 12), epochs=3, images=96,
    gain_epochs=16, gain_images=800, gain_seeds=(100, 101, 102, 103, 104), side_by_side=8,
    power_s=30.0, sustained_minutes=5.0, profile_minutes=None, wait_s=20.0,
)  # fmt: skip

MINIATURE = Scale(
    name="miniature", device="cpu", tests=("tests/test_plain.py",), collected=("-m", "gpu", "tests"),
    student="yolo11p", teacher="yolo11n", step_px=64, batch=2, rounds=2, warm_up_steps=1,
    amps=("fp32", "bf16"), compiled=(("openvino", None),),
    ap_px=96, ap_images=16, latency_px=64, targets=("onnx-fp16",),
    pairs=(("onnx-fp16", "onnx-int8"),),
    looks=(3,), epochs=1, images=8,
    gain_epochs=1, gain_images=32, gain_seeds=(100,), side_by_side=2,
    power_s=1.0, sustained_minutes=0.02, profile_minutes=0.02, wait_s=0.0,
)  # fmt: skip

SCALES = {one.name: one for one in (FULL, MINIATURE)}


def scale_of(name: str) -> Scale:
    """The scale of that name.

    Raises:
        InputError: there is none.
    """
    if name not in SCALES:
        raise InputError(unknown("scale", name, SCALES))
    return SCALES[name]
