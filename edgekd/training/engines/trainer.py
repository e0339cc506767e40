"""The Ultralytics trainer, subclassed in this one file.

Without distillers it is the engine's own training, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from edgekd import ranks
from edgekd.data.quiet import Quietly
from edgekd.detectors.contract import Trainable
from edgekd.detectors.ultralytics.guard import guard
from edgekd.errors import DivergedError, EnvironmentFault
from edgekd.training.distillation import DistillationModule, assert_optimised
from edgekd.training.engines import parallel
from edgekd.training.engines.loader import ResumableLoader
from edgekd.training.engines.precision import amp_is_sound
from edgekd.training.engines.shell import network_of, student_of
from edgekd.training.engines.style import Styled
from edgekd.training.fake_quantization import FakeQuantization
from edgekd.training.resume import Resume

guard()

from ultralytics.engine import trainer as engine_trainer  # noqa: E402
from ultralytics.models.rtdetr.train import RTDETRTrainer  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.utils.torch_utils import ModelEMA, unwrap_model  # noqa: E402

Wrap = Callable[[Trainable, nn.Module, int], DistillationModule]

engine_trainer.check_amp = amp_is_sound  # the engine's own asks a model that it would download
# The engine counts the batches of an epoch from 0. A resumed epoch begins where the loader says; all else is as it was.
engine_trainer.enumerate = lambda items: enumerate(items, getattr(items, "first_batch", 0))


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
        student: to be trained; once the model is set up, the one that is trained.
        initialised: it starts from its own weights, not from a random draw.
        wrap: makes the module for distillation; None trains the student as the engine does.
        compared: batch halving and a loss that is not finite end the training: both would change a comparison.
        resume_state: keeps the state; None keeps nothing.
        fake_quantization: of the batches that are trained, and in validations; None in a float training.
        stepped_at: number of the batch after which the optimiser last stepped, -1 before the first.
    """

    student: Trainable
    initialised: bool
    wrap: Wrap | None
    compared: bool
    resume_state: Resume | None
    fake_quantization: FakeQuantization | None = None
    stepped_at = -1
    _accumulate = 1
    _owed = 0

    def prepare(
        self, student: Trainable, initialised: bool, wrap: Wrap | None, compared: bool, resume: Resume | None
    ) -> None:
        """Say what to train, before `train()`."""
        self.student, self.initialised, self.wrap = student, initialised, wrap
        self.compared, self.resume_state = compared, resume

    def setup_model(self) -> None:
        """Build the student: the same draw from the same random state as in the engine's own training."""
        names = tuple(self.data["names"].values())  # type: ignore[attr-defined]
        self.student = self.student.rebuilt(names, self.initialised)
        self.model = network_of(self.student, names)

    def set_model_attributes(self) -> None:
        """The engine's hook right after the student reached its device: the place to wrap it."""
        super().set_model_attributes()  # type: ignore[misc]
        if self.wrap is not None:
            with torch.random.fork_rng(devices=_devices(self.device)):  # type: ignore[attr-defined]
                torch.manual_seed(self.args.seed)  # type: ignore[attr-defined]
                self.model = self.wrap(self.student, self.model, self.args.epochs).to(self.device)  # type: ignore[attr-defined]

    @property
    def accumulate(self) -> int:
        """Batches per step of the optimiser.

        The engine steps once `accumulate` batches have passed since the last step, which it takes for batch -1 when it
        begins. In a resumed training the last step lies further on (`owe`), until the first one taken here.
        """
        return self._accumulate + self._owed

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self._accumulate = batches

    def owe(self, stepped_at: int) -> None:
        """Say when the optimiser last stepped, in a training that is gone on with."""
        self.stepped_at, self._owed = stepped_at, stepped_at + 1

    def optimizer_step(self) -> None:
        """The engine's step, noted."""
        super().optimizer_step()  # type: ignore[misc]
        loader = self.train_loader  # type: ignore[attr-defined]
        self.stepped_at, self._owed = self.epoch * len(loader) + loader.index - 1, 0  # type: ignore[attr-defined]

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """The engine's loader; the one for training knows its position.

        The engine gives each machine's first process the lead, to write a cache of the labels. On the file system that
        ranks share, rank 0 alone has it.
        """
        rank = ranks.rank() if ranks.size() > 1 else rank
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)  # type: ignore[misc]
        loader.dataset.load_image = Quietly(loader.dataset.load_image)
        return ResumableLoader(loader) if mode == "train" else loader

    def _setup_train(self) -> None:
        self._pipelines_built = 0
        super()._setup_train()  # type: ignore[misc]
        model = unwrap_model(self.model)
        if isinstance(model, DistillationModule):
            model.steps_per_epoch = len(self.train_loader)  # type: ignore[attr-defined]
            assert_optimised(model, self.optimizer)  # type: ignore[attr-defined]
            self.ema = StudentEMA(model)
            model.bind_average(student_of(self.ema.ema))
        if self.resume_state is not None:
            self.resume_state.attach(self)

    def _build_train_pipeline(self) -> None:
        self._pipelines_built += 1
        if self._pipelines_built > 1 and self.compared:
            raise EnvironmentFault(
                f"train.batch: out of memory; the engine would go on with {self.args.batch} images, "  # type: ignore[attr-defined]
                f"which changes the comparison: set train.batch to {self.args.batch} for control and student"  # type: ignore[attr-defined]
            )
        if ranks.size() > 1:  # not before: with a world of its own, the engine would number the GPUs itself
            parallel.agree_on_amp(self)
            self.model = parallel.synchronised(self.model, bool(self.args.compile))  # type: ignore[attr-defined]
            self.world_size = ranks.size()
        super()._build_train_pipeline()  # type: ignore[misc]

    def get_validator(self) -> Any:
        """The engine's validator, whose losses are those of all ranks."""
        validator = super().get_validator()  # type: ignore[misc]
        gather = validator.gather_stats

        def gather_all() -> None:
            gather()
            if validator.training:
                parallel.average_losses(validator)

        if ranks.size() > 1:
            validator.gather_stats = gather_all
        return validator

    def validate(self) -> Any:
        """The engine's validation; of the quantised student, where one is trained: it chooses the best checkpoint."""
        if self.fake_quantization is None:
            return self._validate()
        with self.fake_quantization.of(self.student.with_module(student_of(self.ema.ema))):
            return self._validate()

    def _validate(self) -> Any:
        """Ranks share the images out."""
        if ranks.size() == 1:
            return super().validate()  # type: ignore[misc]
        parallel.share_averages(self.ema.ema)
        self.world_size = 1  # the engine's way to average losses needs GPUs
        try:
            return super().validate()  # type: ignore[misc]
        finally:
            self.world_size = ranks.size()

    def final_eval(self) -> None:
        """The engine's look at the best checkpoint, which needs GPUs where there are several ranks."""
        if ranks.size() == 1 or self.device.type == "cuda":  # type: ignore[attr-defined]
            super().final_eval()  # type: ignore[misc]

    def _model_train(self) -> None:
        super()._model_train()  # type: ignore[misc]
        model = unwrap_model(self.model)
        if isinstance(model, DistillationModule):
            model.source.assert_frozen()

    def require_finite(self) -> None:
        """Rule: in a comparison, a loss that is not finite ends the training; the engine would try `last.pt` again.

        Raises:
            DivergedError: it is not.
        """
        loss = self.loss  # type: ignore[attr-defined]
        if self.compared and loss is not None and not bool(torch.isfinite(loss).all()):
            raise DivergedError(
                f"train: the loss is not finite in epoch {self.epoch + 1}; "  # type: ignore[attr-defined]
                f"lower train.lr0 or the weights in distill"
            )

    def _handle_nan_recovery(self, epoch: int) -> bool:
        self.require_finite()
        return bool(super()._handle_nan_recovery(epoch))  # type: ignore[misc]


class YoloTrainer(Styled, _Distilling, DetectionTrainer):  # type: ignore[misc]
    """For YOLO heads."""


class RtdetrTrainer(Styled, _Distilling, RTDETRTrainer):  # type: ignore[misc]
    """For RT-DETR."""


def _devices(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []
