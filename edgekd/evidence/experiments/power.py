"""Full load on the card, watched by its driver: power, heat, clocks, and whether it slows down."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from edgekd.evidence import sensors
from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments.places import ENGINE, TEACHER
from edgekd.evidence.experiments.train_step import QUICKSTART, setting_of

_EVERY_S = 1.0
_PARTS = 5  # of the time, whose first and last are compared


def offers(setting: Setting) -> Iterator[Experiment]:
    """Once."""
    lacking = setting.lacks_gpus()
    if setting.scale.device == "cuda" and not setting.machine["programs"]["nvidia-smi"]:
        lacking = lacking or "nvidia-smi is not installed, which tells power and heat"
    title = f"power, heat and speed over {setting.scale.power_s:g} s of distillation"
    yield Experiment(
        "power", title, "power", 60, setting.scale.power_s + 90, lacking=lacking,
        sources=("evidence/sensors.py", *ENGINE, *TEACHER),
    )  # fmt: skip


def run(work: Work) -> None:
    """Distilling steps without a pause; energy is power by time, of the whole card."""
    from edgekd.training.engines.step_times import StepBench, warm_up

    bench = StepBench(setting_of(work.scale, work.scale.amps[0]))
    step = bench.step(bench.distilled(bench.teacher(), *QUICKSTART))
    warm_up([step], work.scale.warm_up_steps)
    idle = sensors.reading()
    seconds: list[float] = []
    with sensors.watched(_EVERY_S) as readings:
        until = time.monotonic() + work.scale.power_s
        while time.monotonic() < until or len(seconds) < _PARTS:
            seconds.append(step())
    part = max(1, len(seconds) // _PARTS)
    told = sensors.summary(readings)
    step_s = median(seconds)
    power_w = told["power_w"]
    work.keep(
        steps=len(seconds), step_ms=round(1e3 * step_s, 2),
        last_over_first=round(median(seconds[-part:]) / median(seconds[:part]), 4),
        card=told, has_sensors=sensors.present(), idle=idle, readings=readings,
        joules_per_step=None if power_w is None else round(power_w * step_s, 2),
    )  # fmt: skip


def fault(figures: Mapping[str, Any]) -> str | None:
    """A driver that tells nothing: speed alone was measured."""
    silent = figures.get("has_sensors") and not figures["card"]["readings"]
    return "nvidia-smi is there and gave no reading" if silent else None


register("power", offers, run, fault=fault)
