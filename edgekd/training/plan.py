"""What a training is told, and what it says it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from edgekd.detectors.contract import Trainable
from edgekd.detectors.families import family
from edgekd.detectors.spec import Branch
from edgekd.distill.config import DistillerConfig
from edgekd.training.arguments import OwnArguments
from edgekd.training.fake_quantization import Grid
from edgekd.training.knowledge import StoredKnowledge
from edgekd.training.views import Views


class Watcher(Protocol):
    """Follows a training in place of the progress bar. What it raises ends the training."""

    def batch(self, items: Mapping[str, float]) -> None:
        """After each batch: the parts of the loss by name, averaged over the epoch so far."""
        ...

    def epoch(self, row: Mapping[str, Any]) -> None:
        """After each epoch: the row of `epochs.csv`."""
        ...


@dataclass(frozen=True)
class FitPlan:
    """Everything that decides the weights that come out.

    Attributes:
        student: gives architecture and initial weights; `initialised` says whether its weights are used.
        initialised: start from the student's weights (True) or from the engine's own random draw (False).
        inherited: weights by name that take the place of the student's initial ones.
        data_yaml: YOLO layout for the engine (a view inside the run directory).
        train: the engine's arguments.
        own: edgekd's own arguments of the recipe's `train` section.
        head: branch that checkpoint selection uses.
        seed, threads: random seed, CPU threads (None: all cores).
        distillers: (method, config); empty trains the control.
        compared: student or control of a distillation, where the engine may not change the batch or recover from NaN.
        grid: train under fake quantisation; None trains a float student.
        validated: measure the AP after each epoch, and keep the best one's weights; False for a look at a few steps.
        unlabelled: places in the train split of images whose objects were never marked: methods learn from them, the
            student's own loss does not. Of a distillation alone.
        prepared: label of a method that prepares -> the weights that its preparation left.
        views: shown again and again, each sample drawn by itself; None lets the engine draw as it goes.
        stored: whence knowledge is read instead of asking the teachers, of these views.
        file: that `student.save` writes; None: the first of its family's.
        watcher: follows the training instead of a progress bar; it decides no weight, but may end it.
    """

    student: Trainable
    initialised: bool
    data_yaml: Path
    train: dict[str, Any]
    head: Branch | None
    seed: int
    threads: int | None
    distillers: Sequence[tuple[str, DistillerConfig]] = field(default=())
    own: OwnArguments = field(default_factory=OwnArguments)
    compared: bool = False
    grid: Grid | None = None
    validated: bool = True
    unlabelled: frozenset[int] = frozenset()
    inherited: Mapping[str, Tensor] = field(default_factory=dict)
    prepared: Mapping[str, Path] = field(default_factory=dict)
    views: Views | None = None
    stored: StoredKnowledge | None = None
    file: str | None = None
    watcher: Watcher | None = None

    @property
    def weights_name(self) -> str:
        """Name of the file that holds what was trained."""
        return self.file or family(self.student.spec.family).student_files[0]


@dataclass(frozen=True)
class FitResult:
    """What the training took.

    Attributes:
        weights: the first of the family's `student_files`.
        seconds, saving_seconds: in all, over every process that took part; of these for keeping the state.
    """

    weights: Path
    epochs: int
    seconds: float
    saving_seconds: float
