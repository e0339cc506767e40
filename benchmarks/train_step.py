"""What a training step costs: `score_l2` against Ultralytics' `distill_model`, `pkd` against the bare minimum.

    python benchmarks/train_step.py                                        # yolo11m to yolo11n, about 3 minutes
    python benchmarks/train_step.py --teacher yolo11s --threads 2
    python benchmarks/train_step.py --student yolo11p --teacher yolo11n --imgsz 96    # the pair of the quickstart

A step is zero_grad, forward, loss, backward and AdamW; no data loading, EMA or gradient clipping. Every variant has a
student of the same initial weights and an optimiser of its own, and all see the same batch (random images, five boxes
each). The steps alternate in one process, in random order; figures are medians of ratios within a round. `minimum` is
the plain step plus the forward pass of the very teacher that `pkd` uses, so the rest is what distilling itself costs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from copy import deepcopy
from statistics import median
from typing import Any

from paired import environment, interleave, ratio, say, use_cores

CLASSES = tuple("0123456789")
BOXES_PER_IMAGE = 5
WARM_UP_STEPS = 5  # beyond the first steps, in which edgekd measures gradients per term
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
GOALS = {"score_l2 / distill_model": 0.90, "pkd / minimum": 1.10}


class Bench:
    """The variants of one pair."""

    def __init__(self, options: argparse.Namespace) -> None:
        from edgekd.detectors.engine_guard import guard, set_threads

        guard()
        set_threads(options.threads)
        import torch

        from edgekd.training.teacher import Teacher

        torch.manual_seed(0)
        self.options = options
        self.student = _detector(options.student)
        self.teacher = _detector(options.teacher)
        self.holder = Teacher(self.teacher.frozen(), CLASSES).to(torch.device("cpu"))
        self.batch = _batch(options.batch, options.imgsz)

    def variants(self) -> dict[str, Callable[[], float]]:
        """Each runs one step and returns its seconds."""
        pkd = self._edgekd("pkd")
        taps = tuple(path for part in pkd.distillers for path in part.teacher_taps)
        images = self.batch["img"]
        modules = {
            "plain": (self._new_student(), None),
            "minimum": (self._new_student(), lambda: self.holder.forward(images, taps, frozenset())),
            "pkd": (pkd, None),
            "score_l2": (self._edgekd("score_l2"), None),
            "distill_model": (self._engines(), None),
        }
        return {name: self._step(module, before) for name, (module, before) in modules.items()}

    def _step(self, module: Any, before: Callable[[], object] | None) -> Callable[[], float]:
        import torch

        module.train()
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=1e-4)
        clock = CLOCKS[self.options.clock]

        def step() -> float:
            started = clock()
            optimiser.zero_grad()
            if before:
                before()
            loss, _ = module(self.batch)
            loss.sum().backward()
            optimiser.step()
            return clock() - started

        return step

    def _new_student(self) -> Any:
        from ultralytics.cfg import get_cfg

        student = deepcopy(self.student.module).requires_grad_(True)
        student.args = get_cfg(overrides={"imgsz": self.options.imgsz})
        return student

    def _edgekd(self, method: str) -> Any:
        from edgekd.detectors.ultralytics import UltralyticsDetector
        from edgekd.distill.contract import distiller_type
        from edgekd.training.distillation import DistillationModule
        from edgekd.training.fit import build_distillers

        student = UltralyticsDetector(self._new_student(), self.options.student)
        parts = build_distillers([(method, distiller_type(method).config_type())], student, self.holder)
        module = DistillationModule(student, parts, self.holder, epochs=100)
        module.steps_per_epoch = 100
        return module

    def _engines(self) -> Any:
        from ultralytics.nn.distill_model import DistillationModel

        return DistillationModel(teacher_model=deepcopy(self.teacher.module), student_model=self._new_student())


def _detector(name: str) -> Any:
    from edgekd.detectors.ultralytics import UltralyticsDetector

    return UltralyticsDetector.from_recipe(name, None, CLASSES, 3, name)


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
    parser.add_argument("--pin", action="store_true", help="keep the process on as many cores as it has threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    started = time.monotonic()
    variants = Bench(options).variants()
    say(f"warming up: {WARM_UP_STEPS} steps each")
    for _ in range(WARM_UP_STEPS):
        for step in variants.values():
            step()
    times = interleave(variants, options.rounds)
    ratios = {name: ratio(*(times[side] for side in name.split(" / "))) for name in GOALS}
    print(json.dumps({
        "benchmark": "train_step",
        "settings": vars(options),
        "environment": environment("torch", "ultralytics"),
        "median_ms": {name: round(1e3 * median(values), 1) for name, values in times.items()},
        "ratios": {name: {**value, "goal_at_most": GOALS[name]} for name, value in ratios.items()},
        "seconds": round(time.monotonic() - started, 1),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
