"""What a training step takes, in time and memory, in each number format: plain, distilled, beside the engine's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments.places import ENGINE, TEACHER, trained_on, versions
from edgekd.evidence.scale import Scale
from edgekd.measure.rounds import interleave, ratio

HEAD_METHODS, QUICKSTART = ("logit", "ld"), ("logit", "ld", "score_l2")
_BYTES_PER_MB = 1e6
_RATIOS = (
    "quickstart / distill_model", "score_l2 / distill_model", "head / distill_model", "head / head_minimum",
    "plain_channels_last / plain", "quickstart_channels_last / quickstart", "distill_model / plain",
    "quickstart / plain",
)  # fmt: skip


def offers(setting: Setting) -> Iterator[Experiment]:
    """One for each number format."""
    scale = setting.scale
    for place, amp in enumerate(scale.amps):
        title = f"training step of {scale.student} with {scale.teacher} at {scale.step_px} px, {amp}"
        yield Experiment(
            f"train step {amp}", title, "train step", 20 + place, 150, {"amp": amp}, setting.lacks_gpus(),
            (*ENGINE, *TEACHER),
        )  # fmt: skip


def run(work: Work) -> None:
    """Rounds in random order in one process; memory is what a step needs beyond what lies there between steps."""
    from edgekd.training.engines.step_times import StepBench

    amp = str(work.arguments["amp"])
    bench = StepBench(setting_of(work.scale, amp))
    teacher = bench.teacher()
    head = bench.distilled(teacher, *HEAD_METHODS)
    taught = (HEAD_METHODS, QUICKSTART)
    variants = {
        "plain": bench.plain(),
        "plain_channels_last": bench.plain(channels_last=True),
        "head_minimum": bench.minimum(teacher, head),
        "head": bench.step(head),
        "score_l2": bench.step(bench.distilled(teacher, "score_l2")),
        "quickstart": bench.step(bench.distilled(teacher, *taught[1])),
        "quickstart_channels_last": bench.step(
            bench.distilled(teacher, *taught[1], channels_last=True), channels_last=True
        ),
        "distill_model": bench.engines_own(),
    }  # fmt: skip
    measure(work, variants, _RATIOS)
    row = f"training step {amp}"
    work.shows(row, trained_on(work), (*ENGINE, *TEACHER), versions(work))


def setting_of(scale: Scale, amp: str) -> Any:
    """What a step of this scale is."""
    from edgekd.training.engines.step_times import StepSetting

    return StepSetting(scale.student, scale.teacher, scale.step_px, scale.batch, scale.device, amp)  # type: ignore[arg-type]


def measure(work: Work, variants: Mapping[str, Any], ratios: tuple[str, ...]) -> None:
    """Warm up, read the memory, then time; what is there after a round is kept."""
    from edgekd.training.engines.step_times import warm_up

    warm_up(list(variants.values()), work.scale.warm_up_steps)
    memory = {name: step.memory_bytes() for name, step in variants.items()}
    megabytes = {name: round(found / _BYTES_PER_MB, 1) for name, found in memory.items() if found is not None}
    work.keep(step_memory_mb=megabytes or None)
    steps: dict[str, Callable[[], float]] = dict(variants)

    def told(number: int, times: Mapping[str, list[float]]) -> None:
        work.keep(**figures(times, ratios))

    interleave(steps, work.scale.rounds, told=told)


def figures(times: Mapping[str, list[float]], ratios: tuple[str, ...]) -> dict[str, Any]:
    """Medians, ratios within rounds with their intervals, and the raw times."""
    pairs = {name: name.split(" / ") for name in ratios}
    return {
        "rounds": len(next(iter(times.values()))),
        "median_ms": {name: round(1e3 * median(values), 2) for name, values in times.items()},
        "ratios": {name: ratio(times[ours], times[theirs]) for name, (ours, theirs) in pairs.items()
                   if {ours, theirs} <= set(times)},
        "times_ms": {name: [round(1e3 * value, 2) for value in values] for name, values in times.items()},
    }  # fmt: skip


register("train step", offers, run)
