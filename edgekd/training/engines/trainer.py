"""The Ultralytics trainer, subclassed in this one file.

Without distillers it is the engine's own training, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from edgekd import ranks
from edgekd.data.quiet import Quietly
from edgekd.detectors.contract import Trainable
from edgekd.detectors.ultralytics.guard import guard
from edgekd.errors import DivergedError, EnvironmentFault
from edgekd.training.distillation import DistillationModule, assert_optimised, unwrapped
from edgekd.training.engines import parallel, patches, replay, views
from edgekd.training.engines.loader import ResumableLoader
from edgekd.training.engines.protocol import EngineTrainer
from edgekd.training.engines.release import changed
from edgekd.training.engines.shell import is_engines, network_of, student_of
from edgekd.training.engines.style import Styled
from edgekd.training.engines.train_images import train_images
from edgekd.training.fake_quantization import FakeQuantization
from edgekd.training.resume import Resume
from edgekd.training.store.store import Reader
from edgekd.training.views import Views

guard()

from ultralytics.models.rtdetr.train import RTDETRTrainer  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.utils.torch_utils import ModelEMA  # noqa: E402

Wrap: TypeAlias = Callable[[Trainable, nn.Module, int], DistillationModule]

if TYPE_CHECKING:  # what a class that it is mixed into has
    _Base = EngineTrainer
else:
    _Base = object


class StudentEMA(ModelEMA):  # type: ignore[misc]
    """The engine's EMA, of the student alone."""

    def __init__(self, model: DistillationModule) -> None:
        super().__init__(model.student)

    def update(self, model: Any) -> None:
        """Average the student's weights."""
        super().update(unwrapped(model).student)

    def update_attr(self, model: Any, include: Any = (), exclude: Any = ()) -> None:
        """Copy the student's attributes."""
        super().update_attr(unwrapped(model).student, include, exclude)


class StudentTrainer(_Base):
    """Mixed into the engine's trainers: swaps the student for `DistillationModule` once it is built and on its device.

    Attributes:
        student: to be trained; once the model is set up, the one that is trained.
        initialised: it starts from its own weights, not from a random draw.
        wrap: makes the module for distillation; None trains the student as the engine does.
        compared: batch halving and a loss that is not finite end the training; both would change a comparison.
        validated: measure the AP after each epoch.
        unlabelled: places in the train split of images whose objects were never marked.
        inherited: weights that take the place of the student's initial ones.
        views: that the train split is shown in, each sample drawn by itself; None: as the engine draws it.
        reader: of the records that come with the samples.
        resume_state: keeps the state; None keeps nothing.
        fake_quantization: of the batches that are trained, and in validations; None in a float training.
        stepped_at: number of the batch after which the optimiser last stepped, -1 before the first.
    """

    student: Trainable
    initialised: bool
    wrap: Wrap | None
    compared: bool
    validated: bool
    unlabelled: frozenset[int]
    inherited: Mapping[str, Tensor]
    views: Views | None
    reader: Reader | None
    resume_state: Resume | None
    train_loader: ResumableLoader
    fake_quantization: FakeQuantization | None = None
    stepped_at = -1
    _accumulate = 1
    _first_step = 0

    def __init__(self, *, overrides: dict[str, Any]) -> None:
        with patches.patched():
            self._engine.__init__(overrides=overrides)  # type: ignore[misc]

    @property
    def _engine(self) -> EngineTrainer:
        """The engine's own methods, without those below."""
        return cast(EngineTrainer, super())

    def prepare(
        self,
        student: Trainable,
        initialised: bool,
        wrap: Wrap | None,
        compared: bool,
        resume: Resume | None,
        validated: bool = True,
        unlabelled: frozenset[int] = frozenset(),
        inherited: Mapping[str, Tensor] = MappingProxyType({}),
        views: Views | None = None,
        reader: Reader | None = None,
    ) -> None:
        """Say what to train, before `train()`."""
        self.inherited, self.views, self.reader = inherited, views, reader
        self.student, self.initialised, self.wrap = student, initialised, wrap
        self.compared, self.resume_state = compared, resume
        self.validated, self.unlabelled = validated, unlabelled

    def train(self) -> None:
        """The engine's training.

        Raises:
            EnvironmentFault: the engine is a release whose training is another.
        """
        patches.require_used()
        with patches.patched():
            self._engine.train()

    def setup_model(self) -> None:
        """Build the student: the same draw from the same random state as in the engine's own training."""
        names = tuple(self.data["names"].values())
        self.student = self.student.rebuilt(names, self.initialised)
        self.student.module.load_state_dict(dict(self.inherited), strict=False)
        self.model = network_of(self.student, names)

    def set_model_attributes(self) -> None:
        """The engine's hook right after the student reached its device: the place to wrap it."""
        self._engine.set_model_attributes()
        if self.wrap is not None:
            with torch.random.fork_rng(devices=_devices(self.device)):
                torch.manual_seed(self.args.seed)
                self.model = self.wrap(self.student, self.model, self.args.epochs).to(self.device)

    @property
    def accumulate(self) -> int:
        """Batches per step of the optimiser.

        The engine steps once `accumulate` batches have passed since the last step, which it takes for batch -1 when it
        begins. In a resumed training the last step lies further on (`set_last_step`), until the first one taken here.
        """
        return self._accumulate + self._first_step

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self._accumulate = batches

    def set_last_step(self, stepped_at: int) -> None:
        """Say after which batch the optimiser last stepped, in a training that is gone on with."""
        self.stepped_at, self._first_step = stepped_at, stepped_at + 1

    def optimizer_step(self) -> None:
        """The engine's step, noted."""
        self._engine.optimizer_step()
        loader = self.train_loader
        self.stepped_at, self._first_step = self.epoch * len(loader) + loader.index - 1, 0

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """The engine's loader; the one for training knows its position.

        The engine gives each machine's first process the lead, to write a cache of the labels. On the file system that
        ranks share, rank 0 alone has it.
        """
        rank = ranks.rank() if ranks.size() > 1 else rank
        loader = self._engine.get_dataloader(dataset_path, batch_size, rank, mode)
        loader.dataset.load_image = Quietly(loader.dataset.load_image)
        if mode == "train" and (self.wrap is not None or not is_engines(self.student)):
            views.follow(loader.dataset, self.unlabelled)
        if mode == "train" and self.views is not None:
            replay.install(loader, self.views.seed, self.reader)
        return ResumableLoader(loader, self.views, lambda: self.epoch) if mode == "train" else loader

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The engine's; by the first batch it has asked where in the epoch to begin.

        Raises:
            EnvironmentFault: it has not: it counts the batches in another way.
        """
        if not self.train_loader.numbered:
            raise changed("its loop does not number the batches by enumerate, which edgekd replaces")
        return self._engine.preprocess_batch(batch)

    def _setup_train(self) -> None:
        self._pipelines_built = 0
        self._engine._setup_train()
        model = unwrapped(self.model)
        if isinstance(model, DistillationModule):
            model.steps_per_epoch = len(self.train_loader)
            assert_optimised(model, self.optimizer)
            self.ema = StudentEMA(model)
            model.bind_average(student_of(self.ema.ema))
        if self.resume_state is not None:
            self.resume_state.attach(self)
        if isinstance(model, DistillationModule):
            self._call_at_each_epoch(model)

    def _call_at_each_epoch(self, model: DistillationModule) -> None:
        """Methods look at the data behind the point where a training that is gone on with has its state again."""
        loader = self.train_loader
        resume = loader.before_pass

        def begin() -> None:
            resume()
            model.begin_epoch(self.epoch, partial(train_images, self))

        loader.before_pass = begin

    def _build_train_pipeline(self) -> None:
        self._pipelines_built += 1
        if self._pipelines_built > 1 and self.compared:
            raise EnvironmentFault(
                f"train.batch: out of memory; the engine would go on with {self.args.batch} images, "
                f"which changes the comparison: set train.batch to {self.args.batch} for control and student"
            )
        if ranks.size() > 1:  # not before: with a world of its own, the engine would number the GPUs itself
            parallel.agree_on_amp(self)
            self.model = parallel.synchronised(self.model, bool(self.args.compile))
            self.world_size = ranks.size()
        self._engine._build_train_pipeline()

    def get_validator(self) -> Any:
        """The engine's validator, whose losses are those of all ranks."""
        validator = self._engine.get_validator()
        if ranks.size() > 1:
            parallel.gather_losses(validator)
        return validator

    def validate(self) -> tuple[dict[str, float], float]:
        """The engine's validation; of the quantised student, where one is trained: it chooses the best checkpoint."""
        if not self.validated:
            return {}, 0.0
        if self.fake_quantization is None:
            return self._validate()
        with self.fake_quantization.of(self.student.with_module(student_of(self.ema.ema))):
            return self._validate()

    def _validate(self) -> tuple[dict[str, float], float]:
        """Ranks share the images out."""
        if ranks.size() == 1:
            return self._engine.validate()
        parallel.share_averages(self.ema.ema)
        self.world_size = 1  # the engine's way to average losses needs GPUs
        try:
            return self._engine.validate()
        finally:
            self.world_size = ranks.size()

    def final_eval(self) -> None:
        """The engine's look at the best checkpoint, which needs GPUs where there are several ranks."""
        if self.validated and (ranks.size() == 1 or self.device.type == "cuda"):
            self._engine.final_eval()

    def _model_train(self) -> None:
        self._engine._model_train()
        model = unwrapped(self.model)
        if isinstance(model, DistillationModule):
            model.source.assert_frozen()

    def require_finite(self) -> None:
        """Rule: in a comparison, a loss that is not finite ends the training; the engine would try `last.pt` again.

        Raises:
            DivergedError: it is not.
        """
        if self.compared and self.loss is not None and not bool(torch.isfinite(self.loss).all()):
            raise DivergedError(
                f"train: the loss is not finite in epoch {self.epoch + 1}; lower train.lr0 or the weights in distill"
            )

    def _handle_nan_recovery(self, epoch: int) -> bool:
        self.require_finite()
        return bool(self._engine._handle_nan_recovery(epoch))


class YoloTrainer(Styled, StudentTrainer, DetectionTrainer):  # type: ignore[misc]
    """For YOLO heads."""


class RtdetrTrainer(Styled, StudentTrainer, RTDETRTrainer):  # type: ignore[misc]
    """For RT-DETR."""


def _devices(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []
