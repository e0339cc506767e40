"""Trains a method's own module before any student, by the same engine: resumed, on several ranks, with its loggers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd import ranks
from edgekd.detectors import described
from edgekd.detectors.outputs import Batch, DetectorOutput, Guidance, TrainingPass
from edgekd.detectors.spec import Branch, Needs, Part, Spec
from edgekd.detectors.style import TrainingStyle
from edgekd.distill.contract import Distiller
from edgekd.distill.preparation import Detections
from edgekd.training.teacher import AnyTeacher

FILE = "prepared.safetensors"
# What is the student's in a recipe's `train`, or the engine's for networks of its own.
ARGUMENTS: dict[str, Any] = {
    "optimizer": "AdamW", "lr0": 2e-4, "amp": False, "freeze": None, "compile": False, "cls_pw": 0.0, "patience": 0,
}  # fmt: skip


def read(path: Path) -> dict[str, Tensor]:
    """The weights that a preparation left."""
    return described.read(path)[1]


class _Counted(nn.Module):
    """What is trained, with the number of its steps, which is part of a state that is gone on from."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


class _Detecting(nn.Module):
    """From images to boxes (B, N, 4) and scores (B, N, K), through the teacher."""

    def __init__(self, teacher: AnyTeacher, needs: Needs, detections: Detections) -> None:
        super().__init__()
        self._parts = (teacher, needs, detections)  # a tuple: nn.Module does not register what lies in it

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        teacher, needs, detections = self._parts
        return detections(teacher.to(images.device).forward(images, needs), images)


class PreparedPart:
    """A method's module in the place of a student: what the engine trains of a `Trainable`, and nothing else.

    It is not validated meanwhile; the last epoch's average is kept.
    """

    def __init__(
        self, method: Distiller, teacher: AnyTeacher, spec: Spec, seed: int, header: Mapping[str, Any] | None = None
    ) -> None:
        """Take a method's module.

        Args:
            spec: of the teacher, whose images these are.
            header: written into the file: what the module was prepared for.
        """
        preparation = method.preparation()
        self.module: nn.Module = _Counted(preparation.module)
        self.spec = spec
        self.style = TrainingStyle(schedule=preparation.schedule)
        self._method, self._teacher, self._seed = method, teacher, seed
        self._preparation, self._header = preparation, header

    def training_pass(self, batch: Batch, needs: Needs, guidance: Guidance) -> TrainingPass:
        """The method's terms of the teacher's knowledge."""
        self._teacher.to(batch.images.device)
        steps: Any = self.module.steps
        with torch.no_grad():
            output = self._teacher.forward(batch.images, self._method.wiring.teacher)
            found = (self._preparation.knowledge or self._method.knowledge)(output, batch)
        generator = torch.Generator(batch.images.device)
        digest = hashlib.sha256(f"{self._seed},{int(steps)},{ranks.rank()}".encode()).digest()
        generator.manual_seed(int.from_bytes(digest[:7], "big"))
        terms = self._preparation.loss({key: value.detach() for key, value in found.items()}, batch, generator)
        steps += 1
        items = {name: value.detach() for name, value in terms.items()}
        return TrainingPass(torch.stack(list(terms.values())), items, DetectorOutput({}), {})

    def loss_scale(self, batch_size: int) -> float:
        """Terms are means."""
        return 1.0

    def rebuilt(self, class_names: Sequence[str], with_weights: bool) -> PreparedPart:
        """It is as the method built it."""
        return self

    def with_module(self, module: nn.Module) -> PreparedPart:
        """There is one."""
        return self

    def with_taps(self, paths: Sequence[str]) -> PreparedPart:
        """It has none."""
        return self

    def layers(self) -> tuple[nn.Module, ...]:
        """None is worth computing twice."""
        return ()

    def save(self, folder: Path, arguments: Mapping[str, Any], size_px: int) -> None:
        """The module's weights alone, with what they are for."""
        trained: Any = self.module
        described.write(trained.part, folder / FILE, self._header or {}, half=False)

    def publish(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """There is no other form."""

    def sections(self) -> Mapping[str, tuple[str, ...]]:
        """It inherits nothing."""
        return {}

    def quantisable(self, float_predictions: bool = False) -> dict[str, nn.Conv2d]:
        """It is never exported."""
        return {}

    def frozen(self) -> PreparedPart:
        """See `with_module`."""
        return self

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """It sees what the teacher makes of images, not images."""
        raise NotImplementedError

    def assemble(self, heads: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """See `compute`."""
        raise NotImplementedError

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """See `compute`."""
        raise NotImplementedError

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """What it detects by itself, for a look at how much it learned; it is never exported."""
        assert self._preparation.detections is not None, "asked of a preparation that detects"
        return _Detecting(self._teacher, self._method.wiring.teacher, self._preparation.detections)
