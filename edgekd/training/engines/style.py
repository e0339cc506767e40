"""The engine's trainer with the habits of a family whose students are trained in another way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from torch.optim.lr_scheduler import LambdaLR

from edgekd.detectors.contract import Trainable
from edgekd.detectors.families import family
from edgekd.detectors.style import TrainingStyle
from edgekd.training.engines.protocol import EngineTrainer

if TYPE_CHECKING:  # what a class that it is mixed into has
    _Base = EngineTrainer
else:
    _Base = object

_RUN_IN = 2000  # updates, as in the engine's average: its decay is d * (1 - exp(-updates / 2000))


class Styled(_Base):
    """Mixed into trainers of the engine; a family without habits gets the engine's own code."""

    student: Trainable

    @property
    def style(self) -> TrainingStyle:
        """Of the student's family; what is no detector has one of its own."""
        own: TrainingStyle | None = getattr(self.student, "style", None)
        return own or family(self.student.spec.family).style

    def _setup_scheduler(self) -> None:
        cast(EngineTrainer, super())._setup_scheduler()
        if (schedule := self.style.schedule) is not None:
            self.lf = lambda epoch: schedule(epoch, self.epochs, self.args.lrf)
            self.scheduler = LambdaLR(self.optimizer, lr_lambda=self.lf)

    def _setup_train(self) -> None:
        cast(EngineTrainer, super())._setup_train()
        if (decay := self.style.ema_decay) is not None:
            self.ema.decay = lambda updates: decay * (1 - math.exp(-updates / _RUN_IN))
