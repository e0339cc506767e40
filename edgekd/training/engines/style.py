"""The engine's trainer with the habits of a family whose students are trained in another way, or share weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from edgekd.detectors.contract import Trainable
from edgekd.detectors.families import family
from edgekd.detectors.style import TrainingStyle
from edgekd.training.engines.protocol import EngineTrainer
from edgekd.training.engines.tied import averaged_once, stepped_once

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

    def build_optimizer(self, *given: Any, **named: Any) -> Optimizer:
        """The engine's; weights that layers share are stepped once."""
        return stepped_once(lambda: cast(EngineTrainer, super(Styled, self)).build_optimizer(*given, **named))

    def _setup_scheduler(self) -> None:
        cast(EngineTrainer, super())._setup_scheduler()
        if (schedule := self.style.schedule) is not None:
            self.lf = lambda epoch: schedule(epoch, self.epochs, self.args.lrf)
            self.scheduler = LambdaLR(self.optimizer, lr_lambda=self.lf)

    def _setup_train(self) -> None:
        cast(EngineTrainer, super())._setup_train()
        if (decay := self.style.ema_decay) is not None:
            self.ema.decay = lambda updates: decay * (1 - math.exp(-updates / _RUN_IN))
        averaged_once(self.ema)
