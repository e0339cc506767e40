"""One training of the gain table: control, methods of edgekd, or the engine's `distill_model`, and its AP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Models:
    """Who learns from whom.

    Attributes:
        weights: of the teacher.
        head: the student's branch that is measured; None of a head of queries.
        start: weights that the student begins with; None: random ones.
    """

    teacher: str
    weights: Path
    student: str
    head: Any
    start: Path | None = None


@dataclass(frozen=True)
class How:
    """What all rows of a table share.

    Attributes:
        class_names: of the data; the teacher has the same, in this order.
        train: the engine's arguments, above the habits of the student's family.
        device: cpu, or the number of a GPU.
    """

    models: Models
    class_names: tuple[str, ...]
    data_yaml: Path
    train: Mapping[str, Any]
    threads: int
    device: str = "cpu"


def with_methods(how: How, methods: tuple[tuple[str, Any], ...], seed: int, folder: Path) -> Path:
    """Train by edgekd, with methods and their configs, or without any: the control. The student's checkpoint."""
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.families import open_detector, trainable
    from edgekd.stages.families import with_defaults
    from edgekd.training.arguments import split_arguments
    from edgekd.training.fit import fit
    from edgekd.training.plan import FitPlan

    models = how.models
    asked = Asked(models.student, models.start, how.class_names, 3, "student")
    student = trainable(open_detector(None, asked), "student")
    train, own = split_arguments(with_defaults(student.spec.family, {**how.train, "device": how.device}))
    plan = FitPlan(
        student=student, initialised=models.start is not None, data_yaml=how.data_yaml, train=train, own=own,
        head=models.head, seed=seed, threads=how.threads, distillers=methods,
    )  # fmt: skip
    teachers = {name: _teacher(how, name, student) for name in {config.teacher for _, config in methods}}
    return fit(plan, teachers, folder, folder.name).weights


def _teacher(how: How, name: str, student: Any) -> Any:
    """The one that all rows share, or the student's own average."""
    from edgekd.detectors.class_map import ClassMap
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.families import open_detector
    from edgekd.distill.config import EMA
    from edgekd.training.teacher import EmaTeacher, Teacher

    if name == EMA:
        return EmaTeacher(student.spec)
    detector = open_detector(None, Asked(how.models.teacher, how.models.weights, (), 3, "teacher"))
    return Teacher(detector.frozen(), ClassMap.identity(len(how.class_names)))


def with_engine(how: How, weight: float, seed: int, folder: Path) -> Path:
    """Train by the engine's own distillation, with its argument `dis`. The student's checkpoint."""
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.families import open_detector
    from edgekd.training.engines import peers

    models = how.models
    teacher = open_detector(None, Asked(models.teacher, models.weights, (), 3, "teacher"))
    return peers.distilled(
        models.student, teacher.module, weight,
        class_names=how.class_names, data_yaml=how.data_yaml, train={**how.train, "device": how.device}, seed=seed,
        threads=how.threads, folder=folder,
    )  # fmt: skip


def accuracy(how: How, weights: Path, split: str, size_px: int, folder: Path) -> dict[str, Any]:
    """AP and AP50 of a checkpoint of the student on a split, measured as a run measures it."""
    import torch

    from edgekd.data.config import YoloData, load
    from edgekd.data.pack import build
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.families import open_detector
    from edgekd.recipe.sections import ValidateRecipe
    from edgekd.stages.accuracy import detect_in_torch, summarise

    detector = open_detector(None, Asked(how.models.student, weights, (), 3, "student"))
    data = load(YoloData.model_validate({"format": "yolo", "path": str(how.data_yaml)}), folder / "data", Path())
    images = data.splits[split]
    pack = build(images, (size_px, size_px), 3, folder / "packs")
    settings, head = ValidateRecipe(), how.models.head
    device = torch.device("cpu" if how.device == "cpu" else f"cuda:{how.device}")
    found = detect_in_torch(detector, head, pack=pack, columns=None, settings=settings, title="validate", device=device)
    summary = summarise(images, found, data.class_names, settings, head)
    return {"ap": summary["ap"], "ap50": summary["ap50"]}
