"""Imports Ultralytics with its side effects switched off: settings at home, auto-install, unsafe pickles, downloads.

Every import of `ultralytics` inside edgekd comes after `guard()`. The switches are environment variables that the
engine reads once, at import, so they are set here, before it; child processes inherit them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path


def guard(config_dir: Path | None = None) -> None:
    """Prepare the process for `import ultralytics`.

    Args:
        config_dir: where the engine may keep its settings file, inside the run directory; a temporary folder that is
            removed at exit when None.
    """
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"  # models are built without eval, checkpoints read by allow-list
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_OFFLINE"] = "true"  # no fonts, no weights for its AMP check, no telemetry
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))  # the engine would choose 1
    if "YOLO_CONFIG_DIR" not in os.environ:
        os.environ["YOLO_CONFIG_DIR"] = str(config_dir or _temporary_config())
    Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)
    import torch  # noqa: F401  (before the engine: both read OMP_NUM_THREADS)

    first = "ultralytics" not in sys.modules
    from ultralytics.utils import SETTINGS

    if first:
        dict.update(SETTINGS, sync=False)  # no telemetry
        _keep_from_fetching_fonts()


def _keep_from_fetching_fonts() -> None:
    """The engine looks for Arial on the network before each training; its plots do without."""
    from ultralytics.data import utils

    utils.check_font = lambda *_, **__: None


def set_threads(threads: int | None) -> int:
    """Set torch's CPU threads on purpose: what the recipe says, else all cores this process may use."""
    import torch

    count = threads or usable_cores()
    torch.set_num_threads(count)
    return count


def usable_cores() -> int:
    """Number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _temporary_config() -> str:
    folder = tempfile.mkdtemp(prefix="edgekd-engine-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
