"""Makes the engine's trainer for a plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from edgekd import ranks
from edgekd.cores import set_threads
from edgekd.detectors.contract import Trainable
from edgekd.errors import InputError
from edgekd.training import fake_quantization, memory
from edgekd.training.distillation import DistillationModule
from edgekd.training.distillers import build_distillers
from edgekd.training.engines.placement import engine_device
from edgekd.training.engines.process import prepare
from edgekd.training.knowledge import Stored
from edgekd.training.plan import FitPlan
from edgekd.training.resume import Resume
from edgekd.training.teacher import AnyTeacher

if TYPE_CHECKING:
    from edgekd.training.engines.trainer import StudentTrainer


def make_trainer(
    plan: FitPlan, teachers: Mapping[str, AnyTeacher], work: Path, resume: Resume | None = None
) -> StudentTrainer:
    """The engine's trainer for a plan, ready for `train()`.

    Args:
        work: the engine's folder.
        resume: where the state is kept and gone on from; None keeps none.

    Raises:
        InputError: the device does not exist.
    """
    assert not plan.unlabelled or plan.distillers, "the engine alone takes images without labels for background"
    prepare(work / "config")
    from edgekd.training.engines.shell import is_engines
    from edgekd.training.engines.shell_trainer import trainer_type

    try:
        trainer = trainer_type(plan.student)(overrides=_arguments(plan, work))
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
        for teacher in () if plan.stored else teachers.values():
            teacher.to(device)
        parts = build_distillers(plan.distillers, student.spec, teachers, plan.prepared)
        tutors = [teachers[config.teacher] for _, config in plan.distillers]
        source = Stored(plan.stored) if plan.stored else None
        return DistillationModule(student, network, parts, tutors, epochs, plan.seed, source)

    trainer.prepare(
        plan.student,
        plan.initialised,
        wrap if plan.distillers else None,
        plan.compared or bool(plan.distillers) or not is_engines(plan.student),
        resume,
        plan.validated,
        plan.unlabelled,
        plan.inherited,
        plan.views,
        plan.stored.reader if plan.stored else None,
    )
    return trainer


def _arguments(plan: FitPlan, work: Path) -> dict[str, Any]:
    arguments = {
        "plots": False, **plan.train, "model": f"{plan.student.spec.name}.yaml", "data": str(plan.data_yaml),
        "seed": plan.seed, "save_dir": str(work), "pretrained": False, "verbose": False, "task": "detect",
        "mode": "train",
    }  # fmt: skip
    if ranks.size() > 1:
        arguments["device"] = engine_device(plan.train.get("device"))
        if arguments["device"] == "cpu":
            arguments["amp"] = False  # which rank 0 alone would find out
    if plan.head == "one2one":
        arguments["nms"] = False  # the engine's way to validate the end-to-end branch
    return arguments
