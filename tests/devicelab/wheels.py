"""Wheels for the device's Python, by this Python's pip and its settings."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from edgekd.errors import EnvironmentFault

_PLATFORM = "manylinux_2_28_aarch64"
_SECONDS = 900


def wanted() -> tuple[str, ...]:
    """The runtime in the version of this machine, so that both can be compared, and what it imports."""
    return ("numpy", f"onnxruntime=={version('onnxruntime')}")


def install(target: Path, python: str) -> list[str]:
    """Unpack the wheels into `target` for Python `python`, e.g. `3.11`; returns names and versions.

    Raises:
        EnvironmentFault: pip failed, or there is no such wheel.
    """
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps",
        "--target", str(target), "--platform", _PLATFORM, "--only-binary=:all:", "--implementation", "cp",
        "--python-version", python, *wanted(),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(f"devicelab: pip: not done after {_SECONDS} s; try again") from None
    if done.returncode != 0:
        wrong = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-200:]]
        why = f"wheels for {_PLATFORM}, Python {python}: {wrong[-1]}"
        raise EnvironmentFault(f"devicelab: pip: {why}; see that pip's index has {', '.join(wanted())} for it")
    return sorted(path.name.removesuffix(".dist-info").replace("-", " ") for path in target.glob("*.dist-info"))
