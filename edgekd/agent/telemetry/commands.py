# SPDX-License-Identifier: Apache-2.0
"""Runs the programs by which a board tells what sysfs does not. None of them changes anything."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import android, jetson, raspberry_pi

_TIMEOUT_S = 3
_ELSEWHERE = "/usr/sbin:/usr/bin:/sbin:/system/bin:/opt/vc/bin"

Say = Callable[[List[str]], Tuple[Optional[str], str]]


def say(arguments: List[str]) -> Tuple[Optional[str], str]:
    """(what a program printed, or None; why there is nothing)."""
    program = shutil.which(arguments[0]) or shutil.which(arguments[0], path=_ELSEWHERE)
    if program is None:
        return None, f"no {arguments[0]} here"
    try:
        ended = subprocess.run(
            [program, *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"{arguments[0]}: no answer in {_TIMEOUT_S} s"
    except OSError as error:
        return None, f"{arguments[0]}: {error.strerror}"
    return ended.stdout.decode("utf-8", errors="replace"), f"{' '.join(arguments)}: not understood (it may need root)"


def told(ask: Say = say) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """(what the programs of this board say, why the rest is missing); the keys are those of a snapshot."""
    found: Dict[str, Any] = {}
    absent: Dict[str, str] = {}

    def take(key: str, arguments: List[str], understand: Callable[[str], Any]) -> None:
        said, why = ask(arguments)
        found[key] = None if said is None else understand(said)
        if found[key] is None:
            absent[key] = why

    take("power_mode", ["nvpmodel", "-q"], _power_mode)
    take("clocks", ["jetson_clocks", "--show"], _clocks)
    take("pi_throttled_bits", ["vcgencmd", "get_throttled"], raspberry_pi.throttled)
    take("pi_temperature_c", ["vcgencmd", "measure_temp"], raspberry_pi.temperature_c)
    take("pi_clock_hz", ["vcgencmd", "measure_clock", "arm"], raspberry_pi.clock_hz)
    take("android_thermal", ["dumpsys", "thermalservice"], _thermal)
    return found, absent


def _power_mode(said: str) -> Optional[Dict[str, Any]]:
    mode = jetson.power_mode(said)
    return None if mode is None else dict(mode._asdict())


def _clocks(said: str) -> Optional[Dict[str, Any]]:
    shown = jetson.clocks(said)
    if not shown:
        return None
    return {"locked": jetson.locked(shown), **{name: dict(clock._asdict()) for name, clock in shown.items()}}


def _thermal(said: str) -> Optional[Dict[str, Any]]:
    thermal = android.thermal(said)
    return None if thermal is None else dict(thermal._asdict())
