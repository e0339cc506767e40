"""ncnn's `benchncnn`: smallest, largest and mean time, no raw samples. It fills the model with weights of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from edgekd.devices.tools.timing import ToolTiming, failed

TOOL = "benchncnn"

_LINE = re.compile(r"^\s*(\S+)\s+min =\s*([\d.]+)\s+max =\s*([\d.]+)\s+avg =\s*([\d.]+)", re.MULTILINE)
_SETTING = re.compile(r"^(loop_count|num_threads|powersave|gpu_device|cooling_down) = (-?\d+)", re.MULTILINE)
_CPU = -1


def command(
    param: PurePosixPath,
    shape: Sequence[int],
    *,
    threads: int,
    count: int,
    powersave: int = 0,
    gpu: int = _CPU,
    cool_down: bool = False,
    program: str = "./benchncnn",
) -> list[str]:
    """The command that times the structure of a model.

    Args:
        param: the model's `.param`; its weights are not read.
        shape: of the input as ncnn writes it: width, height, channels.
        threads, count: of the run.
        powersave: 0 all cores, 1 the small, 2 the big ones.
        gpu: number of the Vulkan device; -1: the CPU.
        cool_down: wait 10 s before.
        program: path on the device.
    """
    size = ",".join(map(str, shape))
    return [
        program, str(count), str(threads), str(powersave), str(gpu), str(int(cool_down)),
        f"param={param}", f"shape=[{size}]",
    ]  # fmt: skip


def timing(said: str) -> ToolTiming:
    """Read standard error.

    Raises:
        EnvironmentFault: no line of times, or more than one.
    """
    lines = _LINE.findall(said)
    if len(lines) != 1:
        raise failed(TOOL, f"{len(lines)} lines of times instead of one", said)
    name, least, most, mean = lines[0]
    settings = {key: int(value) for key, value in _SETTING.findall(said)}
    return ToolTiming(
        tool=TOOL,
        lane="inference",
        own_ms={"min": float(least), "max": float(most), "avg": float(mean)},
        warnings=(f"{TOOL} ran the structure with weights of its own",),
        count=settings.get("loop_count"),
        facts={"model": name, **settings},
    )
