# SPDX-License-Identifier: Apache-2.0
"""What of an NVIDIA Jetson an engine is bound to; None on every other machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

from .telemetry import commands, jetson

_RELEASE = re.compile(r"R(\d+).*?REVISION:\s*([\d.]+)")


def l4t_release(root: Path = Path("/")) -> Optional[str]:
    """Version of the Linux for Tegra, e.g. `36.4.3`."""
    try:
        return release_in((root / "etc/nv_tegra_release").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None


def release_in(said: str) -> Optional[str]:
    """The version in the text of `/etc/nv_tegra_release`."""
    found = _RELEASE.search(said)
    return f"{found.group(1)}.{found.group(2)}" if found else None


def power_mode() -> Optional[str]:
    """Name of the power mode in force, e.g. `MAXN`, as `nvpmodel -q` tells it."""
    said, _ = commands.say(["nvpmodel", "-q"])
    mode = jetson.power_mode(said or "")
    return mode.name if mode else None
