"""Everything that edgekd changes about the engine for the whole process, while one of its own trainings runs.

A training enters `patched()` and leaves it: a `YOLO.train` of the user's in the same process is the engine's own,
before and after. (What must be set before the engine is imported, such as how it reads pickles, cannot be taken back
and stays with the guard of the detectors.)

A release of the engine that no longer looks a name up where it is replaced, or no longer calls a method that edgekd
overrides, would train something else without a word. Both are checked whenever a training begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import unwrap
from types import CodeType
from typing import Any

from edgekd.detectors.ultralytics.guard import exact_paths, guard, replaced
from edgekd.training.engines.precision import amp_is_sound
from edgekd.training.engines.release import changed

# Which of the engine's methods call those that edgekd's trainers, averages and validators override, or read what these
# keep.
_TRAINER = {
    "__init__": ("get_dataset",),
    "_do_train": (
        "_setup_train", "_model_train", "preprocess_batch", "accumulate", "optimizer_step", "validate", "start_epoch",
        "_handle_nan_recovery", "save_model", "final_eval", "lf", "update_attr",
    ),
    "optimizer_step": ("update",),
    "_setup_train": ("setup_model", "set_model_attributes", "_build_train_pipeline", "get_validator", "ModelEMA"),
    "_build_train_pipeline": ("get_dataloader", "build_optimizer", "_setup_scheduler"),
}  # fmt: skip
_AVERAGE = {"update": ("decay",)}
_VALIDATOR = {"__call__": ("gather_stats", "loss", "training", "dataloader")}


@dataclass(frozen=True)
class Patch:
    """A name of the engine's that means something else during a training.

    Attributes:
        owner: module that the name is replaced in.
        substitute: what it means meanwhile.
        user: the engine's function that looks the name up there.
        builtin: the name is Python's own and not the engine's.
    """

    owner: Any
    name: str
    substitute: Callable[..., Any]
    user: Callable[..., Any]
    builtin: bool = False


@contextmanager
def patched() -> Iterator[None]:
    """The engine as edgekd's trainings need it; it may be entered again within.

    Raises:
        EnvironmentFault: this release of the engine has changed where it matters.
    """
    with ExitStack() as stack:
        stack.enter_context(exact_paths())
        for patch in _patches():
            stack.enter_context(replaced(patch.owner, patch.name, patch.substitute))
        yield


def require_used() -> None:
    """Check that the engine's code looks up what is replaced, and calls what is overridden.

    Raises:
        EnvironmentFault: it does not, in one line that names the release.
    """
    guard()
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.utils.torch_utils import ModelEMA

    for patch in _patches():
        there = patch.builtin or hasattr(patch.owner, patch.name)
        if not there or patch.name not in _names(patch.user):
            raise changed(f"{patch.user.__qualname__} no longer uses {patch.name}, which edgekd replaces")
    for owner, calls in ((BaseTrainer, _TRAINER), (ModelEMA, _AVERAGE), (BaseValidator, _VALIDATOR)):
        for method, names in calls.items():
            missing = sorted(set(names) - _names(getattr(owner, method, None)))
            if missing:
                raise changed(f"{owner.__name__}.{method} no longer uses {', '.join(missing)}, which edgekd relies on")


def numbered(items: Any) -> Iterator[tuple[int, Any]]:
    """Stands in for `enumerate` in the engine's loop, which counts the batches of an epoch from 0.

    A resumed epoch begins where the loader says; all else is as it was.
    """
    first = getattr(items, "first_batch", 0)
    if hasattr(items, "first_batch"):
        items.numbered = True
    return enumerate(items, first)


def _patches() -> tuple[Patch, ...]:
    guard()
    from ultralytics.data import utils as data
    from ultralytics.engine import trainer
    from ultralytics.nn.tasks import torch_safe_load
    from ultralytics.utils import callbacks, downloads

    base = trainer.BaseTrainer
    return (
        Patch(trainer, "enumerate", numbered, base._do_train, builtin=True),
        # the engine's own asks a model that it would download
        Patch(trainer, "check_amp", amp_is_sound, base._setup_train),
        # it looks for Arial before each training
        Patch(data, "check_font", _nothing, data.check_det_dataset),
        # services that it talks to wherever their packages are installed, writing where they like; `loggers.attached`
        # attaches those that a recipe asks for
        Patch(callbacks, "add_integration_callbacks", _nothing, base.__init__),
        # replaced by `exact_paths`, here for the check of its use
        Patch(downloads, "attempt_download_asset", downloads.attempt_download_asset, torch_safe_load),
    )


def _nothing(*_: object, **__: object) -> None:
    return None


def _names(function: Any) -> set[str]:
    """Every name that a function's code looks up, nested functions included."""
    code = getattr(unwrap(function), "__code__", None) if function is not None else None
    return _names_of(code) if code is not None else set()


def _names_of(code: CodeType) -> set[str]:
    inner = [_names_of(value) for value in code.co_consts if isinstance(value, CodeType)]
    return {*code.co_names, *code.co_freevars}.union(*inner)
