"""Trains one student, with or without a teacher, and leaves inspectable files behind."""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekd.atomic import atomic_path, write_json, write_text
from edgekd.detectors.contract import Branch
from edgekd.detectors.engine_guard import guard, set_threads
from edgekd.detectors.ultralytics import UltralyticsDetector
from edgekd.distill.contract import Distiller, DistillerConfig, distiller_type
from edgekd.errors import DivergedError, EdgekdError, EnvironmentFault, InputError
from edgekd.progress import progress, say
from edgekd.training.teacher import Teacher

MAP_KEYS = {"ap": "metrics/mAP50-95(B)", "ap50": "metrics/mAP50(B)"}


@dataclass(frozen=True)
class FitPlan:
    """Everything that decides the weights that come out.

    Attributes:
        student: gives model YAML and initial weights; `initialised` says whether its weights are used.
        initialised: start from the student's weights (True) or from the engine's own random draw (False).
        data_yaml: YOLO layout for the engine (a view inside the run directory).
        train: the engine's arguments.
        head: branch that checkpoint selection uses.
        seed, threads: random seed, CPU threads (None: all cores).
        distillers: (method, config); empty trains the control.
    """

    student: UltralyticsDetector
    initialised: bool
    data_yaml: Path
    train: dict[str, Any]
    head: Branch | None
    seed: int
    threads: int | None
    distillers: Sequence[tuple[str, DistillerConfig]] = field(default=())
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class FitResult:
    """`student.pt`, and what the training took."""

    weights: Path
    epochs: int
    seconds: float


def fit(plan: FitPlan, teacher: Teacher | None, folder: Path, title: str) -> FitResult:
    """Train and write `student.pt`, `epochs.csv`, and when distilling `terms.csv` and `first_steps.json` into `folder`.

    Raises:
        DivergedError: a loss is not finite.
        EnvironmentFault: out of memory, full disk.
        InputError: a term has no gradient.
    """
    started = time.monotonic()
    work = folder / "engine"
    shutil.rmtree(work, ignore_errors=True)
    trainer = make_trainer(plan, teacher, work)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        _watch(trainer, rows, stack, title)
        _run(trainer)
    model = trainer.model
    _write_csv(folder / "epochs.csv", rows)
    if teacher is not None:
        model.balance.flush()
        _write_csv(folder / "terms.csv", model.balance.rows)
        write_json(folder / "first_steps.json", model.balance.report())
    weights = folder / "student.pt"
    _write_student(trainer.best if trainer.best.exists() else trainer.last, weights, plan)
    shutil.rmtree(work, ignore_errors=True)
    return FitResult(weights, len(rows), time.monotonic() - started)


def build_distillers(
    methods: Sequence[tuple[str, DistillerConfig]], student: UltralyticsDetector, teacher: Teacher
) -> list[Distiller]:
    """Instantiate and wire the methods for a pair."""
    parts = []
    for name, config in methods:
        part = distiller_type(name)(config)
        part.build(student.spec, teacher.spec)
        parts.append(part)
    return parts


def make_trainer(plan: FitPlan, teacher: Teacher | None, work: Path) -> Any:
    """The engine's trainer for a plan, ready for `train()`.

    Raises:
        InputError: the device does not exist.
    """
    guard(work / "config")
    from edgekd.training.distillation import DistillationModule
    from edgekd.training.engine import RtdetrTrainer, YoloTrainer

    set_threads(plan.threads)
    overrides = {
        "plots": False, **plan.train, "model": f"{plan.student.spec.name}.yaml", "data": str(plan.data_yaml),
        "seed": plan.seed, "save_dir": str(work), "pretrained": False, "verbose": False, "task": "detect",
        "mode": "train",
    }  # fmt: skip
    if plan.head == "one2one":
        overrides["nms"] = False  # the engine's way to validate the end-to-end branch
    try:
        trainer = (RtdetrTrainer if plan.student.is_query else YoloTrainer)(overrides=overrides)
    except ValueError as error:
        if "device" not in str(error).lower():
            raise
        raise InputError(f"train.device: {plan.train.get('device')!r} is not on this machine; try cpu or 0") from error

    def wrap(module: Any, epochs: int) -> DistillationModule:
        assert teacher is not None
        detector = UltralyticsDetector(module, plan.student.spec.name)
        detector.name_taps(plan.student.spec.named_paths)
        parts = build_distillers(plan.distillers, detector, teacher.to(next(module.parameters()).device))
        return DistillationModule(detector, parts, teacher, epochs)

    weights = plan.student.module if plan.initialised else None
    trainer.prepare(plan.student.module.yaml, weights, wrap if teacher is not None else None)
    return trainer


def _run(trainer: Any) -> None:
    try:
        trainer.train()
    except EdgekdError:
        raise
    except RuntimeError as error:
        text = str(error)
        if "out of memory" in text.lower():
            raise EnvironmentFault("train: out of memory; lower train.batch or train.imgsz") from error
        if "nan" in text.lower():
            raise DivergedError(f"train: {text}; lower train.lr0") from error
        raise


def _watch(trainer: Any, rows: list[dict[str, Any]], stack: ExitStack, title: str) -> None:
    """A progress bar over all batches, and one row per epoch."""
    bar: list[Any] = []
    trained: list[bool] = []  # a batch was trained since the last row; the engine also reports a final evaluation

    def start(engine: Any) -> None:
        total = len(engine.train_loader) * engine.epochs
        bar.append(stack.enter_context(progress(title, total)))

    def batch_end(engine: Any) -> None:
        trained.append(True)
        bar[0](1, note=f"loss {float(engine.loss.detach()):.2f}" + (f"  AP {rows[-1]['ap']:.3f}" if rows else ""))

    def epoch_end(engine: Any) -> None:
        if not trained:
            return
        trained.clear()
        losses = {key: float(value) for key, value in (engine.tloss or {}).items()}
        scores = {name: float(engine.metrics.get(key, 0.0)) for name, key in MAP_KEYS.items()}
        rows.append({"epoch": engine.epoch + 1, **scores, **losses})
        model = engine.model
        if hasattr(model, "balance"):
            model.balance.flush()
            if len(rows) == 1:
                _say_first_steps(model.balance.report())

    trainer.add_callback("on_train_start", start)
    trainer.add_callback("on_train_batch_end", batch_end)
    trainer.add_callback("on_fit_epoch_end", epoch_end)


def _say_first_steps(report: dict[str, Any]) -> None:
    say(f"first {report['steps']} steps  {'term':<20} {'value':>10} {'weight':>8} {'grad norm':>10} {'share':>7}")
    for term in report["terms"]:
        say(
            f"{'':<14} {term['term']:<20} {term['value']:>10.4g} {term['weight']:>8.3g} "
            f"{term['gradient_norm']:>10.3g} {term['share']:>7.1%}"
        )
        if term["warning"]:
            say(f"warning: distill: {term['term']}: {term['warning']}")


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def _write_student(checkpoint: Path, path: Path, plan: FitPlan) -> None:
    """The engine's checkpoint without paths, host or history: it opens in the engine and says nothing else."""
    import torch
    from ultralytics import __version__
    from ultralytics.nn.tasks import torch_safe_load

    content, _ = torch_safe_load(str(checkpoint), safe_only=True)
    model = content.get("ema") or content["model"]
    model.criterion = None
    model.pt_path = None
    private = {"model", "data", "project", "name", "save_dir", "cfg", "device"}
    arguments = {key: value for key, value in content["train_args"].items() if key not in private}
    model.args = {"task": "detect", "imgsz": plan.train.get("imgsz", 640)}
    with atomic_path(path) as temporary:
        torch.save(
            {
                "epoch": -1, "model": model.half(), "ema": None, "optimizer": None, "train_args": arguments,
                "version": __version__, "license": "AGPL-3.0 (https://ultralytics.com/license)",
            },
            temporary,
        )  # fmt: skip
