"""Imports Ultralytics with its side effects switched off: settings at home, auto-install, unsafe pickles, downloads,
telemetry, integrations.

Every import of `ultralytics` inside edgekd comes after `guard()`. The switches are environment variables that the
engine reads once, at import, so they are set here, before it; child processes inherit them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

from edgekd import ranks
from edgekd.cores import own_cores
from edgekd.openmp import bound_waiting

# Telemetry, and services that the engine talks to wherever their packages are installed, writing where they like.
# `edgekd.training.engines.loggers` attaches those that a recipe asks for.
_INTEGRATIONS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")


def guard(config_dir: Path | None = None) -> None:
    """Prepare the process for `import ultralytics`.

    Args:
        config_dir: where the engine may keep its settings file, and torch what it compiles, inside the run directory;
            a temporary folder that is removed at exit when None.
    """
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"  # models are built without eval, checkpoints read by allow-list
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_OFFLINE"] = "true"  # no fonts, no weights for its AMP check, no telemetry
    os.environ.setdefault("YOLO_VERBOSE", "false")
    bound_waiting()
    os.environ.setdefault("OMP_NUM_THREADS", str(own_cores()))  # the engine would choose 1
    if "YOLO_CONFIG_DIR" not in os.environ:
        os.environ["YOLO_CONFIG_DIR"] = str(config_dir or _temporary_config())
    Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)
    if config_dir is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(config_dir / "inductor"))
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # the data set is checked already
    if ranks.size() == 1:  # what a launcher says to a process that has not joined the others is not for the engine
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            os.environ.pop(name, None)
    import torch  # noqa: F401  (before the engine: both read OMP_NUM_THREADS)
    from ultralytics import utils

    for module in (utils, sys.modules.get("ultralytics.nn.tasks")):
        if module is not None:
            vars(module)["SAFE_LOAD"] = True  # where it was imported before us, without the switch
    dict.update(utils.SETTINGS, dict.fromkeys(_INTEGRATIONS, False))
    _keep_from_downloading()


def _keep_from_downloading() -> None:
    """The engine looks for Arial before each training, and for a network to try AMP with before each on a GPU.

    Its search for weights also takes one path for another: apostrophes are dropped, and some names replaced.
    """
    from ultralytics.data import utils
    from ultralytics.utils import downloads

    utils.check_font = lambda *_, **__: None
    downloads.attempt_download_asset = _found


def _found(file: str | Path, *_: object, **__: object) -> str:
    if not Path(file).exists():
        raise ConnectionError(f"{file} is not there, and downloads are off")  # the engine does without, where it can
    return str(file)


def _temporary_config() -> str:
    folder = tempfile.mkdtemp(prefix="edgekd-engine-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
