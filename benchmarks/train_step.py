"""What a training step costs: against Ultralytics' `distill_model`, against the bare minimum, with a compiled teacher.

    python benchmarks/train_step.py                                        # yolo11m to yolo11n, about 5 minutes
    python benchmarks/train_step.py --pin --threads 2 --imgsz 160          # the setting of the compiled teacher's goals
    python benchmarks/train_step.py --student yolo11p --teacher yolo11n --imgsz 96    # the pair of the quickstart
    python benchmarks/train_step.py --device cuda --imgsz 640 --amp        # on a GPU, where torch.compile takes over
    python benchmarks/train_step.py --pin --methods pkd mgd:width=32       # what each method adds, by itself

A step is zero_grad, forward, loss, backward and AdamW; no data loading, EMA or gradient clipping. Every variant has a
student of the same initial weights and an optimiser of its own, and all see the same batch (random images, five boxes
each). The steps alternate in one process, in random order; figures are medians of ratios within a round.

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
from copy import deepcopy
from functools import partial
from statistics import median
from typing import Any

from paired import environment, extra, interleave, ratio, say, use_cores

CLASSES = tuple("0123456789")
BOXES_PER_IMAGE = 5
WARM_UP_STEPS = 5  # beyond the first steps, in which edgekd measures gradients per term
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
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
    """The variants of one pair."""

    def __init__(self, options: argparse.Namespace) -> None:
        from edgekd.cores import set_threads
        from edgekd.detectors.ultralytics.guard import guard

        guard()
        set_threads(options.threads)
        import torch

        torch.manual_seed(0)
        self.options = options
        self.device = torch.device(options.device)
        self.student = _detector(options.student)
        self.teacher = _detector(options.teacher)
        self.teacher.module.to(options.device).eval()
        self.batch = {key: value.to(self.device) for key, value in _batch(options.batch, options.imgsz).items()}

    def variants(self) -> dict[str, Callable[[], float]]:
        """Each runs one step and returns its seconds."""
        from edgekd.detectors.spec import Needs

        teacher = self._teacher()
        pkd, head = self._edgekd(teacher, "pkd"), self._edgekd(self._teacher(), *HEAD_METHODS)
        images, maps = self.batch["img"], Needs.merged(part.wiring.teacher for part in pkd.distillers)
        outputs = Needs(parts=frozenset({"class_logits", "boxes"}))
        modules = {
            "plain": (self._new_student(), None),
            "minimum": (self._new_student(), lambda: teacher.forward(images, maps)),
            "pkd": (pkd, None),
            "score_l2": (self._edgekd(teacher, "score_l2"), None),
            "distill_model": (self._engines(), None),
            "head_minimum": (self._new_student(), lambda: head.source.teachers[0].forward(images, outputs)),
            "head_unfolded": (self._new_student(), lambda: self._as_given(images)),
            "head_eager": (head, None),
            **{f"head_{name}": (self._edgekd(self._teacher(*keys), *HEAD_METHODS), None)
               for name, keys in self._compiled().items()},
        }  # fmt: skip
        if self.device.type == "cpu":
            modules["score_l2_openvino"] = (self._edgekd(self._teacher("openvino"), "score_l2"), None)
        chosen = self.options.only or list(modules)
        return {name: self._step(module, before) for name, (module, before) in modules.items() if name in chosen}

    def methods(self, names: Sequence[str]) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
        """The plain step, each method's, and for each method the name of its minimum, which is among the steps."""
        from edgekd.detectors.spec import Needs

        teacher, images = self._teacher(), self.batch["img"]
        steps, minimum_of = {"plain": self._step(self._new_student(), None)}, {}
        found: dict[Any, str] = {}
        for name in names:
            module = self._edgekd(teacher, name)
            needs = Needs.merged(part.wiring.teacher for part in module.distillers)
            if needs not in found:
                found[needs] = f"minimum of {name}"
                steps[found[needs]] = self._step(self._new_student(), partial(teacher.forward, images, needs))
            steps[name], minimum_of[name] = self._step(module, None), found[needs]
        return steps, minimum_of

    def _as_given(self, images: Any) -> None:
        """The teacher's eager forward pass as Ultralytics runs it: nothing folded, all heads, boxes decoded."""
        import torch

        with torch.no_grad():
            self.teacher.module(images)

    def _compiled(self) -> dict[str, tuple[str, str | None]]:
        """Compiled teachers that this machine can have, by name: runtime and precision."""
        from edgekd.errors import EdgekdError
        from edgekd.training.teacher_runtime import RUNTIMES

        runtimes = ["openvino"] if self.device.type == "cpu" else ["compile"]
        runtimes += ["compile"] if self.options.compile and self.device.type == "cpu" else []
        found: dict[str, tuple[str, str | None]] = {}
        for runtime in runtimes:
            for name, precision in ((runtime, None), (f"{runtime}_bf16", "bf16")):
                try:
                    RUNTIMES[runtime].check(precision, self.device)
                except EdgekdError as error:
                    say(f"left out: {name}: {error}")
                else:
                    found[name] = (runtime, precision)
        return found

    def _teacher(self, runtime: str = "eager", precision: str | None = None) -> Any:
        from edgekd.detectors.class_map import ClassMap
        from edgekd.training.teacher import Teacher

        return Teacher(self.teacher.frozen(), ClassMap.identity(len(CLASSES)), runtime, precision).to(self.device)

    def _step(self, module: Any, before: Callable[[], object] | None) -> Callable[[], float]:
        import torch

        module.train()
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=1e-4)
        clock = CLOCKS[self.options.clock]
        wait = torch.cuda.synchronize if self.device.type == "cuda" else lambda: None

        def step() -> float:
            wait()
            started = clock()
            optimiser.zero_grad()
            with torch.autocast(self.device.type, enabled=self.options.amp):
                if before:
                    before()
                loss, _ = module(self.batch)
            loss.sum().backward()
            optimiser.step()
            wait()
            return clock() - started

        return step

    def _new_student(self) -> Any:
        from ultralytics.cfg import get_cfg

        student = deepcopy(self.student.module).to(self.device).requires_grad_(True)
        student.args = get_cfg(overrides={"imgsz": self.options.imgsz})
        return student

    def _edgekd(self, teacher: Any, *methods: str) -> Any:
        from edgekd.detectors.ultralytics.detector import UltralyticsDetector
        from edgekd.training.distillation import DistillationModule
        from edgekd.training.distillers import build_distillers

        student = UltralyticsDetector(self._new_student(), self.options.student)
        configs = [_method(text) for text in methods]
        parts = build_distillers(configs, student.spec, {"teacher": teacher})
        module = DistillationModule(student, student.module, parts, [teacher] * len(parts), epochs=100, seed=0)
        module.steps_per_epoch = 100
        return module.to(self.device)

    def _engines(self) -> Any:
        from ultralytics.nn.distill_model import DistillationModel

        return DistillationModel(teacher_model=deepcopy(self.teacher.module), student_model=self._new_student())


def plain_step(model: str, imgsz: int, batch: int, threads: int) -> Callable[[], float]:
    """A training step without a teacher on the CPU; it returns its seconds. For benchmarks of other things."""
    options = argparse.Namespace(
        student=model, teacher=model, imgsz=imgsz, batch=batch, threads=threads, device="cpu", clock="wall", amp=False
    )
    bench = Bench(options)
    return bench._step(bench._new_student(), None)


def _detector(name: str) -> Any:
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector

    return UltralyticsDetector.opened(Asked(name, None, CLASSES, 3, name))


def _method(text: str) -> tuple[str, Any]:
    """A method and its keys, of `mgd:width=32`."""
    from edgekd.distill.contract import distiller_type

    name, _, keys = text.partition(":")
    return name, distiller_type(name).config_type.model_validate(dict(key.split("=") for key in keys.split(",") if key))


def _extra_goal(method: str) -> float | None:
    return EXTRA_GOALS.get(method.partition(":")[0])


def _batch(size: int, imgsz: int) -> dict[str, Any]:
    import torch

    count = size * BOXES_PER_IMAGE
    sides = 0.1 + 0.3 * torch.rand(count, 2)
    centres = sides / 2 + (1 - sides) * torch.rand(count, 2)
    return {
        "img": torch.rand(size, 3, imgsz, imgsz),
        "cls": torch.randint(len(CLASSES), (count, 1)).float(),
        "bboxes": torch.cat([centres, sides], 1),
        "batch_idx": torch.arange(size).repeat_interleave(BOXES_PER_IMAGE).float(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="yolo11n")
    parser.add_argument("--teacher", default="yolo11m")
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help="cpu: where other programs are running")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--amp", action="store_true", help="autocast, as the engine does on a GPU")
    parser.add_argument("--compile", action="store_true", help="torch.compile on a CPU, too")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="leave the other variants out")
    parser.add_argument("--methods", nargs="+", metavar="NAME[:KEY=VALUE,...]", help="measure what these add, no more")
    parser.add_argument("--pin", action="store_true", help="keep the process on as many cores as it has threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    started = time.monotonic()
    bench = Bench(options)
    variants, minimum_of = bench.methods(options.methods) if options.methods else (bench.variants(), {})
    say(f"warming up: {WARM_UP_STEPS} steps each")
    for _ in range(WARM_UP_STEPS):
        for step in variants.values():
            step()
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
