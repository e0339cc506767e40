"""The engine's loggers (TensorBoard, MLflow, Weights & Biases), kept inside the run directory.

They show what the engine shows, every distillation term among its losses as `train/kd/<method>.<term>`. The engine
would write beside its checkpoints, into the current folder or the home folder, and copy checkpoints into the log; here
a logger sees the trainer through `_LoggerView`, which says where to write and holds the checkpoints back. A logger
that fails is dropped with a warning: the training matters more.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgekd import ranks
from edgekd.atomic import write_text
from edgekd.errors import EnvironmentFault
from edgekd.progress import say
from edgekd.training.engines.protocol import EngineTrainer

_MLFLOW_RUN = "mlflow.run"  # id of MLflow's run, for a training that goes on


@dataclass(frozen=True)
class Logger:
    """One of the engine's loggers.

    Attributes:
        module: of the engine's callbacks.
        packages: what has to be installed.
        environment: variables that keep it inside a folder, where the user has not set them.
        runs: whether it is up, after its start.
        started: called once it is up; returns what to tell the user: where it writes, and how to look at it.
        left_out: events of the engine's callbacks that are not passed on.
        finds_itself: it goes on with the log of a training that is said to be resumed.
    """

    module: str
    packages: tuple[str, ...]
    environment: Callable[[Path], Mapping[str, str]]
    runs: Callable[[Any, Any], bool]
    started: Callable[[Path], str]
    left_out: tuple[str, ...] = ()
    finds_itself: bool = False


def _mlflow_environment(folder: Path) -> dict[str, str]:
    found = folder / _MLFLOW_RUN
    resumed = {"MLFLOW_RUN_ID": found.read_text(encoding="utf-8")} if found.is_file() else {}
    return {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "MLFLOW_DISABLE_TELEMETRY": "true", **resumed
    }  # fmt: skip


def _wandb_environment(folder: Path) -> dict[str, str]:
    """Offline unless the user has an account set up; its caches in the run."""
    own = {f"WANDB_{kind}_DIR": str(folder / "wandb") for kind in ("CACHE", "DATA", "ARTIFACT")}
    offline = {} if _has_wandb_account() else {"WANDB_CONFIG_DIR": str(folder / "wandb"), "WANDB_MODE": "offline"}
    return {"WANDB_SILENT": "true", **own, **offline}


def _has_wandb_account() -> bool:
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return bool(os.environ.get("WANDB_API_KEY")) or "wandb" in netrc.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _mlflow_started(folder: Path) -> str:
    import mlflow

    write_text(folder / _MLFLOW_RUN, mlflow.active_run().info.run_id)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    return f"{uri} (mlflow ui --backend-store-uri {uri})"


def _wandb_started(folder: Path) -> str:
    import wandb

    if os.environ.get("WANDB_MODE") == "offline":
        return f"{folder / 'wandb'} (wandb sync {folder / 'wandb'}/offline-run-*)"
    return str(wandb.run.url)


LOGGERS = {
    "tensorboard": Logger(
        "tensorboard",
        ("tensorboard",),
        lambda _folder: {},
        lambda module, _view: module.WRITER is not None,
        lambda folder: f"{folder} (tensorboard --logdir {folder.parent.parent})",
        left_out=(
            "on_train_start",
        ),  # a trace of the whole network, which takes long and shows nothing of the training
    ),
    "mlflow": Logger(
        "mlflow",
        ("mlflow", "sqlalchemy"),
        _mlflow_environment,
        lambda _module, view: getattr(view, "_mlflow_active", False),
        _mlflow_started,
    ),
    "wandb": Logger(
        "wb",
        ("wandb",),
        _wandb_environment,
        lambda module, _view: module.wb.run is not None,
        _wandb_started,
        finds_itself=True,
    ),
}


def require_installed(names: Sequence[str]) -> None:
    """Check that the packages of these loggers are there.

    Raises:
        EnvironmentFault: one line per logger whose package is missing.
    """
    problems = [
        f"train.loggers: {name} is not installed; pip install {LOGGERS[name].packages[0]}, or leave it out"
        for name in names
        if not all(find_spec(package) for package in LOGGERS[name].packages)
    ]
    if problems:
        raise EnvironmentFault(*problems)


@contextmanager
def attached(trainer: EngineTrainer, names: Sequence[str], folder: Path, resumed: bool) -> Iterator[None]:
    """Let loggers watch a trainer that has been made and not begun.

    Args:
        folder: RUN/<training>/logs; they write below it. It is emptied where the training begins anew.
        resumed: the training goes on from a saved state.

    Raises:
        EnvironmentFault: a package is missing.
    """
    require_installed(names)
    if not resumed and ranks.is_main():
        shutil.rmtree(folder, ignore_errors=True)
    if not names or not ranks.is_main():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    variables = {key: text for name in names for key, text in LOGGERS[name].environment(folder).items()}
    fresh = {key: text for key, text in variables.items() if key not in os.environ}
    os.environ.update(fresh)
    try:
        for name in dict.fromkeys(names):
            _attach(trainer, name, folder, resumed)
        yield
    finally:
        for key in fresh:
            os.environ.pop(key, None)


class _LoggerView:
    """The trainer as a logger sees it: another folder to write to, no checkpoints, all else as it is."""

    def __init__(self, trainer: EngineTrainer, name: str, folder: Path, resumed: bool) -> None:
        self.trainer, self.name = trainer, name
        self.save_dir = folder
        self.best = folder / "none"
        self.args = copy.copy(trainer.args)
        self.args.project, self.args.name = folder.parent.parent.name, folder.parent.name
        self.args.save_dir, self.args.resume = str(folder), resumed
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["trainer"], name)

    @property
    def metrics(self) -> dict[str, float]:
        """Without the zeros that the engine notes for losses that validation does not have."""
        return {key: value for key, value in self.trainer.metrics.items() if not key.startswith("val/kd/")}

    def add_callback(self, event: str, callback: Callable[[Any], None]) -> None:
        """Have the logger called at an event, until it fails."""
        self.trainer.add_callback(event, lambda _: self.call(callback))

    def call(self, callback: Callable[[Any], None]) -> None:
        """Call the logger, unless it has failed before."""
        if self.failed:
            return
        try:
            callback(self)
        except Exception as error:  # whatever a logger's server or library says
            self.failed = True
            reason = " ".join(str(error).split())[:200]
            say(f"warning: {self.name}: {type(error).__name__}: {reason}; the training goes on without it")


def _attach(trainer: EngineTrainer, name: str, folder: Path, resumed: bool) -> None:
    logger = LOGGERS[name]
    module = import_module(f"ultralytics.utils.callbacks.{logger.module}")
    view = _LoggerView(trainer, name, folder, resumed and logger.finds_itself)

    def announce(_view: Any) -> None:
        if not logger.runs(module, view):
            raise RuntimeError("did not start")
        say(f"{name}: {logger.started(folder)}")

    for event, callback in module.callbacks.items():
        if event == "on_pretrain_routine_start":
            view.call(callback)  # the trainer has had it when it was made
        elif event not in logger.left_out:
            view.add_callback(event, _without_checkpoints(callback) if event == "on_train_end" else callback)
    view.add_callback("on_train_start", announce)


def _without_checkpoints(callback: Callable[[Any], None]) -> Callable[[Any], None]:
    """MLflow's last callback copies every checkpoint, unless it is told that it does not log."""

    def call(view: Any) -> None:
        vars(view)["_mlflow_active"] = False
        callback(view)

    return call
