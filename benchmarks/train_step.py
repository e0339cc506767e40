"""What a training step costs: against Ultralytics' `distill_model`, against the bare minimum, with a compiled teacher.

    python benchmarks/train_step.py                                        # yolo11m to yolo11n, about 5 minutes
    python benchmarks/train_step.py --pin --threads 2 --imgsz 160          # the setting of the compiled teacher's goals
    python benchmarks/train_step.py --student yolo11p --teacher yolo11n --imgsz 96    # the pair of the quickstart
    python benchmarks/train_step.py --device cuda --imgsz 640 --amp        # on a GPU, where torch.compile takes over
    python benchmarks/train_step.py --pin --methods pkd mgd:width=32       # what each method adds, by itself

What a step is: `edgekd/training/engines/step_times.py`, which `edgekd evidence` uses, too. The steps alternate in one
process, in random order; figures are medians of ratios within a round.

`minimum` is the plain step plus the eager forward pass of the very teacher that `pkd` uses, so the rest is what
distilling itself costs; `head_minimum` likewise with the teacher's head outputs, `head_unfolded`
with the teacher as Ultralytics runs it, its batch norms not folded. The compiled teachers serve the head
methods of the quickstart, `logit` and `ld` (variants `head_*`); `score_l2_*` is the method of `distill_model` with the
same compiled teacher. `*_bf16` computes the teacher in bfloat16: another teacher, in the third digit, and its figures
stand apart. OpenVINO serves CPUs, `torch.compile` GPUs (and CPUs with --compile, after minutes of compiling).

With `--methods`, these are measured instead: `extra` is what a method's step takes beyond the plain step and the eager
teacher's forward pass to what the method reads (`minimum of ...`, shared by methods that read the same), in parts of
the plain step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

from paired import environment, extra, interleave, ratio, say, use_cores

GOALS = {
    "score_l2 / distill_model": 0.90,
    "pkd / minimum": 1.10,
    "head_openvino / head_minimum": 0.75,
    "head_openvino / distill_model": 0.80,
    "head_compile / head_minimum": 0.75,
    "head_compile / distill_model": 0.80,
}
BESIDE = (  # without a goal: the bfloat16 teacher, the compiled maps, a teacher that is not folded
    "head_openvino_bf16 / head_minimum",
    "head_openvino_bf16 / distill_model",
    "head_openvino / head_unfolded",
    "score_l2_openvino / distill_model",
    "head_compile_bf16 / head_minimum",
    "head_compile_bf16 / distill_model",
)
HEAD_METHODS = ("logit", "ld")
EXTRA_GOALS = {
    **dict.fromkeys(("pkd", "cwd", "fitnet", "frs"), 0.10),
    **dict.fromkeys(("fgd", "mgd", "mkd", "crosskd"), 0.25),
}


class Bench:
    """The variants of one pair. Imports come late: the sizes of thread pools are set before."""

    def __init__(self, options: argparse.Namespace) -> None:
        from edgekd.cores import set_threads
        from edgekd.training.engines.step_times import StepBench, StepSetting

        set_threads(options.threads)
        half = "fp16" if options.device == "cuda" else "bf16"
        self.options = options
        self.made = StepBench(StepSetting(
            options.student, options.teacher, options.imgsz, options.batch, options.device,
            half if options.amp else "fp32", options.clock,
        ))  # fmt: skip

    def variants(self) -> dict[str, Callable[[], float]]:
        """Each runs one step and returns its seconds."""
        made, teacher = self.made, self.made.teacher()
        pkd, head = made.distilled(teacher, "pkd"), made.distilled(made.teacher(), *HEAD_METHODS)
        makers: dict[str, Callable[[], Callable[[], float]]] = {
            "plain": made.plain,
            "minimum": lambda: made.minimum(teacher, pkd),
            "pkd": lambda: made.step(pkd),
            "score_l2": lambda: made.step(made.distilled(teacher, "score_l2")),
            "distill_model": made.engines_own,
            "head_minimum": lambda: made.minimum(head.source.teachers[0], head),
            "head_unfolded": made.unfolded,
            "head_eager": lambda: made.step(head),
            **{f"head_{name}": partial(self._taught_by, keys, *HEAD_METHODS)
               for name, keys in self._compiled().items()},
        }  # fmt: skip
        if made.device.type == "cpu":
            makers["score_l2_openvino"] = partial(self._taught_by, ("openvino", None), "score_l2")
        chosen = self.options.only or list(makers)
        return {name: make() for name, make in makers.items() if name in chosen}

    def methods(self, names: Sequence[str]) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
        """The plain step, each method's, and for each method the name of its minimum, which is among the steps."""
        from edgekd.detectors.spec import Needs

        made, teacher = self.made, self.made.teacher()
        steps: dict[str, Callable[[], float]] = {"plain": made.plain()}
        minimum_of, found = {}, dict[Any, str]()
        for name in names:
            module = made.distilled(teacher, name)
            needs = Needs.merged(part.wiring.teacher for part in module.distillers)
            if needs not in found:
                found[needs] = f"minimum of {name}"
                steps[found[needs]] = made.minimum(teacher, module)
            steps[name], minimum_of[name] = made.step(module), found[needs]
        return steps, minimum_of

    def _taught_by(self, keys: tuple[Any, Any], *methods: str) -> Callable[[], float]:
        return self.made.step(self.made.distilled(self.made.teacher(*keys), *methods))

    def _compiled(self) -> dict[str, tuple[str, str | None]]:
        """Compiled teachers that this machine can have, by name: runtime and precision."""
        from edgekd.errors import EdgekdError
        from edgekd.training.teacher_runtime import RUNTIMES

        runtimes = ["openvino"] if self.made.device.type == "cpu" else ["compile"]
        runtimes += ["compile"] if self.options.compile and self.made.device.type == "cpu" else []
        found: dict[str, tuple[str, str | None]] = {}
        for runtime in runtimes:
            for name, precision in ((runtime, None), (f"{runtime}_bf16", "bf16")):
                try:
                    RUNTIMES[runtime].check(precision, self.made.device)
                except EdgekdError as error:
                    say(f"left out: {name}: {error}")
                else:
                    found[name] = (runtime, precision)
        return found


def plain_step(model: str, imgsz: int, batch: int, threads: int) -> Callable[[], float]:
    """A training step without a teacher on the CPU; it returns its seconds. For benchmarks of other things."""
    options = argparse.Namespace(
        student=model, teacher=model, imgsz=imgsz, batch=batch, threads=threads, device="cpu", clock="wall", amp=False
    )
    return Bench(options).made.plain()


def _extra_goal(method: str) -> float | None:
    return EXTRA_GOALS.get(method.partition(":")[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="yolo11n")
    parser.add_argument("--teacher", default="yolo11m")
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--clock", choices=["cpu", "wall"], default="wall", help="cpu: where other programs are running"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--amp", action="store_true", help="autocast, as the engine does on a GPU")
    parser.add_argument("--compile", action="store_true", help="torch.compile on a CPU, too")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="leave the other variants out")
    parser.add_argument("--methods", nargs="+", metavar="NAME[:KEY=VALUE,...]", help="measure what these add, no more")
    parser.add_argument("--pin", action="store_true", help="keep the process on as many cores as it has threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    from edgekd.training.engines.step_times import WARM_UP_STEPS, warm_up

    started = time.monotonic()
    bench = Bench(options)
    variants, minimum_of = bench.methods(options.methods) if options.methods else (bench.variants(), {})
    say(f"warming up: {WARM_UP_STEPS} steps each")
    warm_up(list(variants.values()))
    times = interleave(variants, options.rounds)
    pairs = {name: name.split(" / ") for name in (*GOALS, *BESIDE)}
    done = {name: sides for name, sides in pairs.items() if set(sides) <= set(times)}
    extras = {name: extra(times[name], times[least], times["plain"]) for name, least in minimum_of.items()}
    ratios = {name: ratio(times[ours], times[theirs]) for name, (ours, theirs) in done.items()}
    print(json.dumps({
        "benchmark": "train_step",
        "settings": vars(options),
        "environment": environment("torch", "ultralytics", "openvino"),
        "median_ms": {name: round(1e3 * median(values), 1) for name, values in times.items()},
        "ratios": {name: {**value, "goal_at_most": GOALS.get(name)} for name, value in ratios.items()},
        "extra": {name: {**value, "goal_at_most": _extra_goal(name)} for name, value in extras.items()},
        "seconds": round(time.monotonic() - started, 1),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
