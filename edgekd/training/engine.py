"""The Ultralytics trainer, subclassed in this one file.

Without distillers it is the engine's own training, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from edgekd.detectors.engine_guard import guard
from edgekd.errors import DivergedError, EnvironmentFault
from edgekd.training.distillation import DistillationModule, assert_optimised

guard()

from ultralytics.models.rtdetr.train import RTDETRTrainer  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.utils.torch_utils import ModelEMA, unwrap_model  # noqa: E402

Wrap = Callable[[Any, int], DistillationModule]


class StudentEMA(ModelEMA):  # type: ignore[misc]
    """The engine's EMA, of the student alone."""

    def __init__(self, model: DistillationModule) -> None:
        super().__init__(model.student)

    def update(self, model: Any) -> None:
        """Average the student's weights."""
        super().update(unwrap_model(model).student)

    def update_attr(self, model: Any, include: Any = (), exclude: Any = ()) -> None:
        """Copy the student's attributes."""
        super().update_attr(unwrap_model(model).student, include, exclude)


class _Distilling:
    """Mixed into the engine's trainers: swaps the student for `DistillationModule` once it is built and on its device.

    Attributes:
        student_config: model YAML to build the student from.
        student_weights: module whose weights the student starts from, or None.
        wrap: makes the module for distillation; None trains the student as the engine does.
    """

    student_config: dict[str, Any]
    student_weights: Any
    wrap: Wrap | None

    def prepare(self, config: dict[str, Any], weights: Any, wrap: Wrap | None) -> None:
        """Say what to train, before `train()`."""
        self.student_config, self.student_weights, self.wrap = config, weights, wrap

    def setup_model(self) -> None:
        """Build the student: the same draw from the same random state as in the engine's own training."""
        self.model = self.get_model(cfg=dict(self.student_config), weights=self.student_weights, verbose=False)  # type: ignore[attr-defined]

    def set_model_attributes(self) -> None:
        """The engine's hook right after the student reached its device: the place to wrap it."""
        super().set_model_attributes()  # type: ignore[misc]
        if self.wrap is not None:
            with torch.random.fork_rng(devices=_devices(self.device)):  # type: ignore[attr-defined]
                torch.manual_seed(self.args.seed)  # type: ignore[attr-defined]
                self.model = self.wrap(self.model, self.args.epochs).to(self.device)  # type: ignore[attr-defined]

    def _setup_train(self) -> None:
        self._pipelines_built = 0
        super()._setup_train()  # type: ignore[misc]
        model = unwrap_model(self.model)
        if isinstance(model, DistillationModule):
            model.steps_per_epoch = len(self.train_loader)  # type: ignore[attr-defined]
            assert_optimised(model, self.optimizer)  # type: ignore[attr-defined]
            self.ema = StudentEMA(model)

    def _build_train_pipeline(self) -> None:
        self._pipelines_built += 1
        if self._pipelines_built > 1 and self.wrap is not None:
            raise EnvironmentFault(
                f"train.batch: out of memory; the engine would go on with {self.args.batch} images, "  # type: ignore[attr-defined]
                f"which changes the comparison: set train.batch to {self.args.batch} for control and student"  # type: ignore[attr-defined]
            )
        super()._build_train_pipeline()  # type: ignore[misc]

    def _model_train(self) -> None:
        super()._model_train()  # type: ignore[misc]
        model = unwrap_model(self.model)
        if isinstance(model, DistillationModule):
            model._holder[1].assert_frozen()

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """When distilling, a non-finite loss ends the run: the engine's recovery would change the comparison."""
        loss = self.loss  # type: ignore[attr-defined]
        if self.wrap is not None and loss is not None and not bool(torch.isfinite(loss).all()):
            raise DivergedError(
                f"train: the loss is not finite in epoch {epoch + 1}; lower train.lr0 or the weights in distill"
            )
        return bool(super()._handle_nan_recovery(epoch))  # type: ignore[misc]


class YoloTrainer(_Distilling, DetectionTrainer):  # type: ignore[misc]
    """For YOLO heads."""


class RtdetrTrainer(_Distilling, RTDETRTrainer):  # type: ignore[misc]
    """For RT-DETR."""


def _devices(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []
