"""Trains one student, with or without a teacher, and leaves inspectable files behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd import ranks
from edgekd.atomic import disk_faults
from edgekd.cores import set_threads
from edgekd.errors import DivergedError, EdgekdError, EnvironmentFault, InputError
from edgekd.training.engines import loggers
from edgekd.training.engines.build import make_trainer
from edgekd.training.outputs import write_outputs
from edgekd.training.plan import FitPlan, FitResult
from edgekd.training.resume import FILE, Resume
from edgekd.training.teacher import AnyTeacher
from edgekd.training.watch import watch

if TYPE_CHECKING:
    from edgekd.training.engines.trainer import StudentTrainer


def fit(
    plan: FitPlan, teachers: Mapping[str, AnyTeacher], folder: Path, title: str, resume: Resume | None = None
) -> FitResult:
    """Train and write into `folder` the student's weights and `epochs.csv`, of a distillation its terms, too.

    Args:
        teachers: whom the plan's methods learn from, by name; empty without methods.
        resume: where the state is kept and gone on from, for the caller to remove; None keeps it in `folder` meanwhile.

    Raises:
        DivergedError: a loss is not finite.
        EnvironmentFault: out of memory, full disk, another engine than expected.
        InputError: a term has no gradient, an image has vanished, the kept state is of another training.
        Interrupted: by a signal, after saving.
    """
    alone = resume is None
    resume = resume or Resume(folder / FILE, {}, plan.own.checkpoint_minutes)
    resumed = resume.path.is_file()
    resume.load()
    work = folder / "engine"
    if ranks.is_main():
        shutil.rmtree(work, ignore_errors=True)
    ranks.wait()
    if not resume.done:
        with ExitStack() as stack:
            stack.enter_context(resume.stop)
            stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))  # the engine's bars
            trainer = make_trainer(plan, teachers, work, resume)
            watch(trainer, resume, stack, title, plan.watcher)
            stack.enter_context(loggers.attached(trainer, plan.own.loggers, folder / "logs", resumed))
            _run(trainer, resume, plan.data_yaml.parent)
        set_threads(plan.threads)  # its final evaluation has chosen again
    if ranks.is_main():
        assert resume.best is not None
        write_outputs(folder, work, plan, resume.log, resume.best)
        if alone:
            resume.remove()
    epochs = len(resume.log["epochs"])
    return FitResult(folder / plan.weights_name, epochs, resume.elapsed(), resume.saving_seconds)


def _run(trainer: StudentTrainer, resume: Resume, data: Path) -> None:
    """Train; what the engine raises becomes an error that says what to do."""
    try:
        with disk_faults(resume.path.parent):
            trainer.train()
    except EdgekdError:
        raise
    except FileNotFoundError as error:
        if str(data) not in str(error):
            raise
        raise InputError(
            f"train: {error}; an image of the data set has vanished: put it back, and the same command goes on"
        ) from error
    except RuntimeError as error:
        if ranks.is_loss(error):
            raise
        explained = _explained(str(error))
        if explained is None:
            raise
        raise explained from error


def _explained(text: str) -> EdgekdError | None:
    """What a RuntimeError of the engine's means to the user; None where it means a fault of ours."""
    if "out of memory" in text.lower():
        return EnvironmentFault("train: out of memory; lower train.batch or train.imgsz")
    if "DataLoader worker" in text:
        return EnvironmentFault(
            f"train: {text.rstrip('.')}: it was ended from outside, most often since memory ran out; lower"
            " train.workers or train.batch"
        )
    if "nan" in text.lower():
        return DivergedError(f"train: {text}; lower train.lr0")
    return None
