"""What trainings on this machine are called in rows, and the code that they are."""

from __future__ import annotations

from edgekd.evidence import machine
from edgekd.evidence.contract import Work
from edgekd.training.engines.process import PACKAGES

ENGINE = (
    "training/engines/trainer.py", "training/engines/shell_trainer.py", "training/engines/build.py",
    "training/engines/placement.py", "training/engines/precision.py", "training/engines/batch.py",
    "training/fit.py", "training/distillation.py", "training/distillers.py",
)  # fmt: skip
TEACHER = ("training/teacher.py", "training/teacher_network.py", "training/teacher_runtime.py")
RESUME = ("training/resume.py", "training/signals.py", "training/engines/snapshot.py")
RANKS = ("ranks/*.py", "training/launch.py", "training/engines/parallel.py")


def trained_on(work: Work) -> list[str]:
    """Words of the place where trainings run."""
    words = machine.where(work.setting.machine)
    return [*words, "cuda" if work.scale.device == "cuda" else "CPU"]


def versions(work: Work, *packages: str) -> dict[str, str]:
    """Of packages that are there; without a name, of those that train."""
    there = work.setting.machine["versions"]
    return {package: there[package] for package in packages or PACKAGES if package in there}
