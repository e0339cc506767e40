"""Trains one student, with or without a teacher, and leaves inspectable files behind."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from edgekd import ranks
from edgekd.atomic import disk_faults, write_bytes, write_json, write_text
from edgekd.cores import set_threads
from edgekd.detectors.contract import Trainable
from edgekd.detectors.families import family
from edgekd.detectors.spec import Branch, Spec
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Distiller, distiller_type
from edgekd.errors import DivergedError, EdgekdError, EnvironmentFault, InputError
from edgekd.progress import progress, say
from edgekd.training import fake_quantization, memory
from edgekd.training.arguments import OwnArguments
from edgekd.training.engines import loggers
from edgekd.training.engines.placement import engine_device
from edgekd.training.engines.process import prepare
from edgekd.training.resume import FILE, Resume
from edgekd.training.teacher import AnyTeacher

SCORES = {
    "ap": "metrics/mAP50-95(B)", "ap50": "metrics/mAP50(B)", "precision": "metrics/precision(B)",
    "recall": "metrics/recall(B)",
}  # fmt: skip


@dataclass(frozen=True)
class FitPlan:
    """Everything that decides the weights that come out.

    Attributes:
        student: gives architecture and initial weights; `initialised` says whether its weights are used.
        initialised: start from the student's weights (True) or from the engine's own random draw (False).
        data_yaml: YOLO layout for the engine (a view inside the run directory).
        train: the engine's arguments.
        own: edgekd's own arguments of the recipe's `train` section.
        head: branch that checkpoint selection uses.
        seed, threads: random seed, CPU threads (None: all cores).
        distillers: (method, config); empty trains the control.
        compared: student or control of a distillation, where the engine may not change the batch or recover from NaN.
        grid: train under fake quantisation; None trains a float student.
    """

    student: Trainable
    initialised: bool
    data_yaml: Path
    train: dict[str, Any]
    head: Branch | None
    seed: int
    threads: int | None
    distillers: Sequence[tuple[str, DistillerConfig]] = field(default=())
    class_names: tuple[str, ...] = ()
    own: OwnArguments = field(default_factory=OwnArguments)
    compared: bool = False
    grid: fake_quantization.Grid | None = None


@dataclass(frozen=True)
class FitResult:
    """What the training took.

    Attributes:
        weights: the first of the family's `student_files`.
        seconds, saving_seconds: in all, over every process that took part; of these for keeping the state.
    """

    weights: Path
    epochs: int
    seconds: float
    saving_seconds: float


def fit(
    plan: FitPlan, teachers: Mapping[str, AnyTeacher], folder: Path, title: str, resume: Resume | None = None
) -> FitResult:
    """Train and write into `folder` the student's weights and `epochs.csv`, of a distillation its terms, too.

    Args:
        teachers: whom the plan's methods learn from, by name; empty without methods.
        resume: where the state is kept and gone on from, for the caller to remove; None keeps it in `folder` meanwhile.

    Raises:
        DivergedError: a loss is not finite.
        EnvironmentFault: out of memory, full disk.
        InputError: a term has no gradient, an image has vanished, the kept state is of another training.
        Interrupted: by a signal, after saving.
    """
    alone = resume is None
    resume = resume or Resume(folder / FILE, {}, plan.own.checkpoint_minutes)
    resumed = resume.path.is_file()
    resume.load()
    work = folder / "engine"
    if ranks.is_main():
        shutil.rmtree(work, ignore_errors=True)
    ranks.wait()
    if not resume.done:
        with ExitStack() as stack:
            stack.enter_context(resume.stop)
            stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))  # the engine's bars
            trainer = make_trainer(plan, teachers, work, resume)
            _watch(trainer, resume, stack, title)
            stack.enter_context(loggers.attached(trainer, plan.own.loggers, folder / "logs", resumed))
            _run(trainer, resume, plan.data_yaml.parent)
        set_threads(plan.threads)  # its final evaluation has chosen again
    log, weights = resume.log, folder / family(plan.student.spec.family).student_files[0]
    if not ranks.is_main():
        return FitResult(weights, len(log["epochs"]), resume.elapsed(), resume.saving_seconds)
    from edgekd.training.engines.checkpoint import save_student

    _write_csv(folder / "epochs.csv", log["epochs"])
    if plan.distillers:
        _write_csv(folder / "terms.csv", log["terms"])
        write_json(folder / "first_steps.json", log["first_steps"])
    assert resume.best is not None
    write_bytes(work / "best.pt", resume.best.numpy().tobytes())
    save_student(plan.student, work / "best.pt", folder, plan.train.get("imgsz", 640))
    shutil.rmtree(work, ignore_errors=True)
    if alone:
        resume.remove()
    return FitResult(weights, len(log["epochs"]), resume.elapsed(), resume.saving_seconds)


def build_distillers(
    methods: Sequence[tuple[str, DistillerConfig]], student: Spec, teachers: Mapping[str, AnyTeacher]
) -> list[Distiller]:
    """The methods, each wired for the student and its teacher."""
    return [distiller_type(name)(config, teachers[config.teacher].pair(student)) for name, config in methods]


def make_trainer(plan: FitPlan, teachers: Mapping[str, AnyTeacher], work: Path, resume: Resume | None = None) -> Any:
    """The engine's trainer for a plan, ready for `train()`.

    Raises:
        InputError: the device does not exist.
    """
    prepare(work / "config")
    from edgekd.training.distillation import DistillationModule
    from edgekd.training.engines.shell import is_engines
    from edgekd.training.engines.shell_trainer import trainer_type

    overrides = {
        "plots": False, **plan.train, "model": f"{plan.student.spec.name}.yaml", "data": str(plan.data_yaml),
        "seed": plan.seed, "save_dir": str(work), "pretrained": False, "verbose": False, "task": "detect",
        "mode": "train",
    }  # fmt: skip
    if ranks.size() > 1:
        overrides["device"] = engine_device(plan.train.get("device"))
        if overrides["device"] == "cpu":
            overrides["amp"] = False  # which rank 0 alone would find out
    if plan.head == "one2one":
        overrides["nms"] = False  # the engine's way to validate the end-to-end branch
    try:
        trainer = trainer_type(plan.student)(overrides=overrides)
    except ValueError as error:
        if "device" not in str(error).lower():
            raise
        raise InputError(
            f"train.device: {plan.train.get('device')!r} is not on this machine; write cpu, or leave it out"
        ) from error
    set_threads(plan.threads)  # the engine has just set its own number: on two cores, one
    if plan.own.activation_checkpointing:
        memory.install(trainer)
    if plan.grid is not None:
        fake_quantization.install(trainer, plan.grid)

    def wrap(student: Trainable, network: nn.Module, epochs: int) -> DistillationModule:
        device = next(network.parameters()).device
        for teacher in teachers.values():
            teacher.to(device)
        parts = build_distillers(plan.distillers, student.spec, teachers)
        tutors = [teachers[config.teacher] for _, config in plan.distillers]
        return DistillationModule(student, network, parts, tutors, epochs, plan.seed)

    compared = plan.compared or bool(plan.distillers) or not is_engines(plan.student)
    trainer.prepare(plan.student, plan.initialised, wrap if plan.distillers else None, compared, resume)
    return trainer


def _run(trainer: Any, resume: Resume, data: Path) -> None:
    try:
        with disk_faults(resume.path.parent):
            trainer.train()
    except EdgekdError:
        raise
    except FileNotFoundError as error:
        if str(data) not in str(error):
            raise
        raise InputError(
            f"train: {error}; an image of the data set has vanished: put it back, and the same command goes on"
        ) from error
    except RuntimeError as error:
        if ranks.is_loss(error):
            raise
        text = str(error)
        if "out of memory" in text.lower():
            raise EnvironmentFault("train: out of memory; lower train.batch or train.imgsz") from error
        if "DataLoader worker" in text:
            raise EnvironmentFault(
                f"train: {text.rstrip('.')}: it was ended from outside, most often since memory ran out; lower"
                " train.workers or train.batch"
            ) from error
        if "nan" in text.lower():
            raise DivergedError(f"train: {text}; lower train.lr0") from error
        raise


def _watch(trainer: Any, resume: Resume, stack: ExitStack, title: str) -> None:
    """A progress bar over all batches, and one row per epoch."""
    from edgekd.training.engines.shell import unwrapped

    rows: list[dict[str, Any]] = resume.log.setdefault("epochs", [])
    bar: list[Any] = []

    def start(engine: Any) -> None:
        loader = engine.train_loader
        size, done = len(loader), len(loader) * engine.start_epoch + loader.first_batch
        bar.append(stack.enter_context(progress(title, size * engine.epochs, done=done, round_steps=size)))

    def batch_end(engine: Any) -> None:
        engine.require_finite()
        bar[0](1, note=f"loss {float(engine.loss.detach()):.2f}" + (f"  AP {rows[-1]['ap']:.3f}" if rows else ""))

    def epoch_end(engine: Any) -> None:
        if resume.done or not ranks.is_main():  # the engine also reports a final evaluation
            return
        losses = {key: float(value) for key, value in (engine.tloss or {}).items()}
        scores = {name: float(engine.metrics.get(key, 0.0)) for name, key in SCORES.items()}
        validated = {key.replace("/", "_"): float(value) for key, value in engine.metrics.items() if key[:4] == "val/"}
        rows.append({"epoch": engine.epoch + 1, **scores, **losses, **validated, "lr": _learning_rate(engine)})
        balance = getattr(unwrapped(engine.model), "balance", None)
        if balance is not None:
            balance.flush()
            resume.log |= {"terms": balance.rows, "first_steps": balance.report()}
            if len(rows) == 1:
                _say_first_steps(balance.report())

    trainer.add_callback("on_train_start", start)
    trainer.add_callback("on_train_batch_end", batch_end)
    trainer.add_callback("on_fit_epoch_end", epoch_end)


def _learning_rate(engine: Any) -> float:
    """At the end of the epoch, of the weights; in the warm-up, that of the biases is another."""
    groups = engine.optimizer.param_groups
    return float(next((group for group in groups if group.get("param_group") != "bias"), groups[0])["lr"])


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
    """Rows that an earlier version has kept may lack columns: empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
