"""What a training step takes, and which memory: plain, distilled, and by the engine's own distillation, side by side.

A step is zero_grad, forward, loss, backward and AdamW; no data loading, average or gradient clipping. Every variant
has a student of the same initial weights and an optimiser of its own, and all see the same batch (random images, five
boxes each). Weights are random ones: nothing here depends on what a network knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Asked
from edgekd.detectors.spec import Needs
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.detectors.ultralytics.guard import guard
from edgekd.distill.contract import distiller_type
from edgekd.training.distillation import DistillationModule
from edgekd.training.distillers import build_distillers
from edgekd.training.teacher import Teacher
from edgekd.training.teacher_network import PrecisionName, RuntimeName

Amp = Literal["fp32", "fp16", "bf16"]
CLASSES = tuple("0123456789")
BOXES_PER_IMAGE = 5
WARM_UP_STEPS = 5  # beyond the first steps, in which edgekd measures gradients per term
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class StepSetting:
    """Who trains, on what, and how.

    Attributes:
        student, teacher: names of the engine's models.
        batch: images per step, of `imgsz` x `imgsz` px.
        device: `cpu` or `cuda`.
        amp: mixed precision of the student's step; fp16 with the scaler of gradients that the engine has.
        clock: `wall`, or `cpu` where other programs are running.
    """

    student: str
    teacher: str
    imgsz: int
    batch: int
    device: str = "cpu"
    amp: Amp = "fp32"
    clock: Literal["wall", "cpu"] = "wall"
    classes: tuple[str, ...] = CLASSES


class Step:
    """One variant: called, it does a step and gives its seconds.

    Args:
        module: gives the loss of a batch.
        before: done in each step before it, and part of it.
    """

    def __init__(
        self, module: Any, batch: dict[str, Any], setting: StepSetting, before: Callable[[], object] | None = None
    ) -> None:
        module.train()
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._module, self._batch, self._before = module, batch, before
        self._kind, self._amp = setting.device.partition(":")[0], setting.amp
        self._optimiser = torch.optim.AdamW(trained, lr=1e-4)
        self._scaler = torch.amp.GradScaler(self._kind, enabled=self._amp == "fp16" and self._kind == "cuda")
        self._clock = CLOCKS[setting.clock]

    def __call__(self) -> float:
        """Seconds of one step."""
        self._wait()
        started = self._clock()
        self._optimiser.zero_grad()
        with torch.autocast(self._kind, _DTYPES[self._amp], enabled=self._amp != "fp32"):
            if self._before:
                self._before()
            loss, _ = self._module(self._batch)
        self._scaler.scale(loss.sum()).backward()
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._wait()
        return self._clock() - started

    def memory_bytes(self) -> int | None:
        """What another step needs at its peak beyond what lies on the GPU between steps; None on a CPU."""
        if self._kind != "cuda":
            return None
        self._optimiser.zero_grad()
        self._wait()
        resting = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self()
        return int(torch.cuda.max_memory_allocated() - resting)

    def _wait(self) -> None:
        if self._kind == "cuda":
            torch.cuda.synchronize()


class StepBench:
    """The variants of one pair."""

    def __init__(self, setting: StepSetting) -> None:
        guard()
        torch.manual_seed(0)
        self.setting = setting
        self.device = torch.device(setting.device)
        self.student = _detector(setting.student, setting.classes)
        self.tutor = _detector(setting.teacher, setting.classes)
        self.tutor.module.to(self.device).eval()
        self.batch = {name: value.to(self.device) for name, value in _batch(setting).items()}

    def plain(self, before: Callable[[], object] | None = None, channels_last: bool = False) -> Step:
        """The student alone, with something else done in each step before."""
        return self.step(self.new_student(channels_last), before, channels_last)

    def minimum(self, teacher: Teacher, distilled: DistillationModule) -> Step:
        """The plain step and a teacher's forward pass to what a distillation reads: the least that one can take."""
        methods: Any = distilled.distillers
        needs = Needs.merged(part.wiring.teacher for part in methods)
        return self.plain(partial(teacher.forward, self.batch["img"], needs))

    def unfolded(self) -> Step:
        """The plain step and the teacher's forward pass as the engine runs it: not folded, all heads, boxes decoded."""

        def given() -> None:
            with torch.no_grad():
                self.tutor.module(self.batch["img"])

        return self.plain(given)

    def engines_own(self) -> Step:
        """The engine's own distillation, `distill_model`."""
        from ultralytics.nn.distill_model import DistillationModel

        return self.step(DistillationModel(teacher_model=deepcopy(self.tutor.module), student_model=self.new_student()))

    def teacher(self, runtime: RuntimeName = "eager", precision: PrecisionName | None = None) -> Teacher:
        """A frozen copy of the teacher."""
        identity = ClassMap.identity(len(self.setting.classes))
        return Teacher(self.tutor.frozen(), identity, runtime, precision).to(self.device)

    def distilled(self, teacher: Teacher, *methods: str, channels_last: bool = False) -> DistillationModule:
        """A student that learns from a teacher by some methods, each as `distiller_of` reads it."""
        student = UltralyticsDetector(self.new_student(channels_last), self.setting.student)
        parts = build_distillers([distiller_of(text) for text in methods], student.spec, {"teacher": teacher})
        module = DistillationModule(student, student.module, parts, [teacher] * len(parts), epochs=100, seed=0)
        module.steps_per_epoch = 100
        return module.to(self.device)

    def step(self, module: Any, before: Callable[[], object] | None = None, channels_last: bool = False) -> Step:
        """A step of any module that gives a loss."""
        batch = self.batch
        if channels_last:
            batch = {**batch, "img": batch["img"].contiguous(memory_format=torch.channels_last)}
        return Step(module, batch, self.setting, before)

    def new_student(self, channels_last: bool = False) -> Any:
        """The same initial weights at every call."""
        from ultralytics.cfg import get_cfg

        layout = torch.channels_last if channels_last else torch.preserve_format
        student: Any = deepcopy(self.student.module).to(self.device, memory_format=layout).requires_grad_(True)
        student.args = get_cfg(overrides={"imgsz": self.setting.imgsz})
        return student


def distiller_of(text: str) -> tuple[str, Any]:
    """A method and its keys, of `mgd:width=32`."""
    name, _, keys = text.partition(":")
    given = dict(key.split("=") for key in keys.split(",") if key)
    return name, distiller_type(name).config_type.model_validate(given)


def warm_up(steps: Sequence[Callable[[], float]], count: int = WARM_UP_STEPS) -> None:
    """Do every step some times: the first are longer."""
    for _ in range(count):
        for step in steps:
            step()


def _detector(name: str, classes: tuple[str, ...]) -> UltralyticsDetector:
    return UltralyticsDetector.opened(Asked(name, None, classes, 3, name))


def _batch(setting: StepSetting) -> dict[str, Any]:
    count = setting.batch * BOXES_PER_IMAGE
    sides = 0.1 + 0.3 * torch.rand(count, 2)
    centres = sides / 2 + (1 - sides) * torch.rand(count, 2)
    return {
        "img": torch.rand(setting.batch, 3, setting.imgsz, setting.imgsz),
        "cls": torch.randint(len(setting.classes), (count, 1)).float(),
        "bboxes": torch.cat([centres, sides], 1),
        "batch_idx": torch.arange(setting.batch).repeat_interleave(BOXES_PER_IMAGE).float(),
    }
