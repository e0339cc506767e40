"""One training of `distill_gain.py`: what a row says, on `digits`, and its AP on the split that it names."""

from __future__ import annotations

import resource
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Models:
    """Who learns from whom.

    Attributes:
        head: the student's branch that is measured; None of a head of queries.
        lr0: of AdamW.
    """

    teacher: str
    weights: Path
    student: str
    head: str | None
    lr0: float


PAIRS = {
    "yolo": Models("yolo11n", ROOT / "recipes/weights/digits-yolo11n.safetensors", "yolo11p", "one2many", 0.005),
    # its teacher: edgekd run recipes/digits-rtdetr-teacher.yaml --out runs/digits-rtdetr-teacher
    "rtdetr": Models(
        "rtdetr-n", ROOT / "runs/digits-rtdetr-teacher/student/student.safetensors", "rtdetr-p", None, 0.0005
    ),
}
# Methods that stand together in one row, with their weights.
COMBINED = {
    "logit+ld": {"logit": 1.0, "ld": 1.0},
    "logit+ld+score_l2": {"logit": 1.0, "ld": 1.0, "score_l2": 6.0},
}
OPTIONS: dict[str, dict[str, Any]] = {"cwd": {"normalise": "channel"}}


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        method: of edgekd, `control`, or the engine's `distill_model`; with `:gradient` behind it, an automatic weight
            is one of gradients.
        weight: a factor on the method's own weight, or `auto`.
    """

    method: str
    weight: float | str
    seed: int
    split: str

    @property
    def key(self) -> tuple[str, float | str, int, str]:
        return self.method, self.weight, self.seed, self.split


def attempt(row: Row, **how: Any) -> dict[str, Any]:
    """`train`, or the reason why a row could not be: others go on."""
    try:
        return train(row, **how)
    except Exception as error:  # whatever stops one row
        return {**asdict(row), "error": f"{type(error).__name__}: {error}"}


def train(row: Row, data_yaml: str, setting: dict[str, Any], scratch: Path, threads: int) -> dict[str, Any]:
    """Train one row and measure AP on its split."""
    from edgekd.data.config import YoloData, load
    from edgekd.data.pack import build
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector
    from edgekd.detectors.ultralytics.guard import guard
    from edgekd.recipe.sections import ValidateRecipe
    from edgekd.stages.accuracy import Stopwatch, detect_in_torch, summarise

    guard(scratch / "engine")
    import torch

    torch.set_num_threads(threads)
    watch = Stopwatch()
    folder = scratch / "-".join(str(part) for part in row.key).replace("+", "_").replace(":", "_")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    weights = (_with_engine if row.method == "distill_model" else _with_edgekd)(
        row, data_yaml, setting, folder, threads
    )
    seconds = watch.seconds()
    pair = PAIRS[setting["pair"]]
    detector = UltralyticsDetector.opened(Asked(pair.student, weights, (), 3, "student"))
    data = load(YoloData(format="yolo", path=data_yaml), folder / "data", Path())
    split = data.splits[row.split]
    pack = build(split, (96, 96), 3, folder / "packs")
    found = detect_in_torch(detector, pair.head, pack=pack, columns=None, settings=ValidateRecipe(), title="validate")
    summary = summarise(split, found, data.class_names, ValidateRecipe(), pair.head)
    shutil.rmtree(folder, ignore_errors=True)
    figures = {
        "ap": summary["ap"], "ap50": summary["ap50"], "seconds": round(seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),  # of this process alone
    }  # fmt: skip
    return {"setting": setting["name"], **asdict(row), **figures}


def _arguments(setting: dict[str, Any]) -> dict[str, Any]:
    return {
        "imgsz": 96, "epochs": setting["epochs"], "batch": 16, "nbs": 16, "optimizer": "AdamW",
        "lr0": PAIRS[setting["pair"]].lr0,
        "cos_lr": True, "warmup_epochs": 1.0, "warmup_bias_lr": 0.0, "mosaic": 0.0, "fliplr": 0.0, "amp": False,
        "patience": 0, "plots": False,
        "cache": True, "val": False,  # the last epoch's weights are taken, whatever the method
    }  # fmt: skip


def _with_edgekd(row: Row, data_yaml: str, setting: dict[str, Any], folder: Path, threads: int) -> Path:
    from edgekd.data.digits import CLASS_NAMES
    from edgekd.detectors.class_map import ClassMap
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector
    from edgekd.distill.contract import distiller_type
    from edgekd.training.fit import fit
    from edgekd.training.plan import FitPlan
    from edgekd.training.teacher import Teacher

    method, _, share_of = row.method.partition(":")
    weights = COMBINED.get(method, {method: 1.0})
    auto = {"weight": "auto", "share_of": share_of or "loss"}
    methods = tuple(
        (name, distiller_type(name).config_type(
            **(auto if row.weight == "auto" else {"weight": weight * float(row.weight)}), **OPTIONS.get(name, {}),
        ))
        for name, weight in weights.items()
        if name != "control"
    )  # fmt: skip
    pair = PAIRS[setting["pair"]]
    teacher = UltralyticsDetector.opened(Asked(pair.teacher, pair.weights, (), 3, "teacher"))
    student = UltralyticsDetector.opened(Asked(pair.student, None, CLASS_NAMES, 3, "student"))
    plan = FitPlan(
        student=student, initialised=False, data_yaml=Path(data_yaml), train=_arguments(setting), head=pair.head,
        seed=row.seed, threads=threads, distillers=methods,
    )  # fmt: skip
    teachers = {"teacher": Teacher(teacher.frozen(), ClassMap.identity(len(CLASS_NAMES)))} if methods else {}
    return fit(plan, teachers, folder, str(row.key)).weights


def _with_engine(row: Row, data_yaml: str, setting: dict[str, Any], folder: Path, threads: int) -> Path:
    """Ultralytics' own distillation: the same student YAML, its trainer, `distill_model` and `dis`."""
    import torch

    from edgekd.data.digits import CLASS_NAMES
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector

    from edgekd.training.engines.trainer import YoloTrainer  # isort: skip  (only to build the student from a width-0.125 YAML)

    teacher = UltralyticsDetector.opened(Asked("yolo11n", PAIRS["yolo"].weights, (), 3, "teacher"))
    torch.save({"model": teacher.module, "train_args": {}}, folder / "teacher.pt")
    overrides = {
        **_arguments(setting), "model": "yolo11p.yaml", "data": data_yaml, "seed": row.seed, "pretrained": False,
        "save_dir": str(folder / "engine"), "distill_model": str(folder / "teacher.pt"), "dis": row.weight,
        "verbose": False,
    }  # fmt: skip
    torch.set_num_threads(threads)
    trainer = YoloTrainer(overrides=overrides)
    student = UltralyticsDetector.opened(Asked("yolo11p", None, CLASS_NAMES, 3, "student"))
    trainer.prepare(student, False, None, False, None)
    trainer.train()
    return Path(trainer.best)
