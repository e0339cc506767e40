"""A teacher that is compiled, beside the eager one."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments.places import ENGINE, TEACHER, trained_on, versions
from edgekd.evidence.experiments.train_step import HEAD_METHODS, measure, setting_of

_RATIOS = ("compiled / head", "compiled / head_minimum", "compiled / distill_model", "head / head_minimum")


def offers(setting: Setting) -> Iterator[Experiment]:
    """One for each runtime and precision."""
    amp = setting.scale.amps[0]
    for place, (runtime, precision) in enumerate(setting.scale.compiled):
        name = f"teacher {runtime}{f' {precision}' if precision else ''}"
        title = f"training step with the teacher in {runtime}, {precision or 'as the student'}, student in {amp}"
        arguments = {"runtime": runtime, "precision": precision, "amp": amp}
        lacking = setting.lacks_gpus()
        yield Experiment(name, title, "teacher", 35 + 40 * place, 240, arguments, lacking, _sources(runtime))


def run(work: Work) -> None:
    """As the timed steps; the first step of the compiled teacher, which compiles, is told apart."""
    from edgekd.training.engines.step_times import StepBench

    runtime, precision = work.arguments["runtime"], work.arguments["precision"]
    bench = StepBench(setting_of(work.scale, work.arguments["amp"]))
    teacher = bench.teacher()
    head = bench.distilled(teacher, *HEAD_METHODS)
    compiled = bench.step(bench.distilled(bench.teacher(runtime, precision), *HEAD_METHODS))
    work.keep(first_step_s=round(compiled(), 2))
    variants = {
        "plain": bench.plain(), "head_minimum": bench.minimum(teacher, head), "head": bench.step(head),
        "compiled": compiled, "distill_model": bench.engines_own(),
    }  # fmt: skip
    measure(work, variants, _RATIOS)
    row = f"teacher {runtime}{f' {precision}' if precision else ''}"
    work.shows(row, trained_on(work), _sources(runtime), versions(work, "torch", "triton", "openvino"))


def _sources(runtime: str) -> tuple[str, ...]:
    return (*ENGINE, *TEACHER, *(("training/teacher_openvino.py",) if runtime == "openvino" else ()))


register("teacher", offers, run)
