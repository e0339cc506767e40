# SPDX-License-Identifier: Apache-2.0
"""`doctor`: what is installed for this Python, and which programs the device has. Needs the standard library alone."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import shutil
import sys
from argparse import Namespace
from typing import Any, Dict, Optional

from .protocol import AgentError, Writer
from .runtimes import installed, runtime_class, unusable

_LIBRARIES = ("numpy", "cv2")
_PROGRAMS = ("trtexec", "nvpmodel", "jetson_clocks", "tegrastats", "vcgencmd")
_BESIDE_PATH = "/usr/src/tensorrt/bin"  # where JetPack puts trtexec


def doctor(arguments: Namespace, writer: Writer) -> None:
    """Write one `doctor` event; with `--runtime`, one about that runtime alone.

    A library that is broken may kill the process that imports it, so the host asks for each runtime by itself.
    """
    if arguments.runtime:
        writer.emit("doctor", runtime=_runtime(arguments.runtime))
        return
    writer.emit(
        "doctor",
        python=platform.python_version(),
        executable=sys.executable,
        is_venv=sys.prefix != sys.base_prefix,
        user=os.environ.get("USER") or os.environ.get("LOGNAME"),
        libraries={name: _version(name) for name in _LIBRARIES},
        programs={name: shutil.which(name) or shutil.which(name, path=_BESIDE_PATH) for name in _PROGRAMS},
    )


def _version(library: str) -> Optional[str]:
    try:
        return str(getattr(importlib.import_module(library), "__version__", "unknown"))
    except Exception:
        return None


def _runtime(name: str) -> Dict[str, Any]:
    reason = unusable(name)
    version = None
    with contextlib.suppress(AgentError):
        version = str(runtime_class(name).version)
    return {"name": name, "version": version, "unusable": reason, "installed": installed(name)}
