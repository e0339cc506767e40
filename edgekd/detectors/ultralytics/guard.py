"""Imports Ultralytics with its side effects switched off: settings at home, auto-install, unsafe pickles, downloads,
telemetry.

Every import of `ultralytics` inside edgekd comes after `guard()`. The switches are environment variables that the
engine reads once, at import, so they are set here, before it, and stay; child processes inherit them. What a training
changes beside that lasts as long as it does (`edgekd.training.engines.patches`).
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekd import ranks
from edgekd.cores import own_cores
from edgekd.openmp import bound_waiting

SETTINGS_FOLDER = "YOLO_CONFIG_DIR"  # environment variable: where the engine keeps its settings file


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
    if SETTINGS_FOLDER not in os.environ:
        os.environ[SETTINGS_FOLDER] = str(config_dir or _temporary_config())
    Path(os.environ[SETTINGS_FOLDER]).mkdir(parents=True, exist_ok=True)
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


@contextmanager
def replaced(owner: Any, name: str, substitute: Any) -> Iterator[None]:
    """A module's name means something else during the block; afterwards it is as it was, or gone again."""
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, substitute)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextmanager
def exact_paths() -> Iterator[None]:
    """The engine opens the file that it is told, during the block.

    Its own search drops apostrophes from a path, takes some names for others, and downloads what it does not find.
    """
    from ultralytics.utils import downloads

    with replaced(downloads, "attempt_download_asset", _found):
        yield


def _found(file: str | Path, *_: object, **__: object) -> str:
    if not Path(file).exists():
        raise ConnectionError(f"{file} is not there, and downloads are off")  # the engine does without, where it can
    return str(file)


def _temporary_config() -> str:
    folder = tempfile.mkdtemp(prefix="edgekd-engine-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
