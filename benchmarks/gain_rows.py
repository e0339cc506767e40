"""One training of `distill_gain.py`: what a row says, and its AP on the split that it names."""

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
        weights: of the teacher; where `recipe` is given, its student, trained when it is not there.
        head: the student's branch that is measured; None of a head that has one.
        train: of the student, above what all have and below what its family has.
        recipe: that makes the teacher; with `data`, on the photographs that the command names.
    """

    teacher: str
    weights: Path
    student: str
    head: str | None
    train: dict[str, Any]
    recipe: Path | None = None


ADAMW = {
    "nbs": 16, "optimizer": "AdamW", "lr0": 0.005, "cos_lr": True, "warmup_bias_lr": 0.0,
}  # fmt: skip
DIGITS = {"imgsz": 96, "warmup_epochs": 1.0, "mosaic": 0.0, "fliplr": 0.0}


def _made(name: str) -> Path:
    return ROOT / "runs" / name / "student" / "student.safetensors"


PAIRS = {
    "yolo": Models(
        "yolo11n", ROOT / "recipes/weights/digits-yolo11n.safetensors", "yolo11p", "one2many", {**DIGITS, **ADAMW}
    ),
    "rtdetr": Models(
        "rtdetr-n", _made("digits-rtdetr-teacher"), "rtdetr-p", None, {**DIGITS, **ADAMW, "lr0": 0.0005},
        ROOT / "recipes/digits-rtdetr-teacher.yaml",
    ),
    "rtmdet": Models(
        "rtmdet-tiny", _made("digits-rtmdet-teacher"), "rtmdet-p", "one2many", {**DIGITS, "mixup": 0.0},
        ROOT / "recipes/digits-rtmdet-teacher.yaml",
    ),
    "photographs": Models(
        "yolo11m", _made("photographs-teacher"), "yolo11n", "one2many",
        {**ADAMW, "lr0": 0.001, "imgsz": 320, "warmup_epochs": 3.0},
        ROOT / "benchmarks/photographs-teacher.yaml",
    ),
}  # fmt: skip
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
    from edgekd.detectors.families import open_detector
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
    data = load(YoloData(format="yolo", path=data_yaml), folder / "data", Path())
    weights = (_with_engine if row.method == "distill_model" else _with_edgekd)(
        row, data_yaml, setting, folder, threads, data.class_names
    )
    seconds = watch.seconds()
    pair = PAIRS[setting["pair"]]
    detector = open_detector(None, Asked(pair.student, weights, (), 3, "student"))
    split = data.splits[row.split]
    side = pair.train["imgsz"]
    pack = build(split, (side, side), 3, folder / "packs")
    device = "cpu" if setting["device"] == "cpu" else "cuda"
    found = detect_in_torch(
        detector, pair.head, pack=pack, columns=None, settings=ValidateRecipe(), title="validate", device=device
    )
    summary = summarise(split, found, data.class_names, ValidateRecipe(), pair.head)
    shutil.rmtree(folder, ignore_errors=True)
    figures = {
        "ap": summary["ap"], "ap50": summary["ap50"], "seconds": round(seconds, 1), "peak_mb": _peak_mb(device),
    }  # fmt: skip
    return {"setting": setting["name"], "device": setting["device_name"], **asdict(row), **figures}


def _peak_mb(device: str) -> int:
    """Of this process alone: of a GPU its memory for tensors since the last row, else what was resident at most."""
    import torch

    if device == "cpu":
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return round(peak / 1e6)


def _arguments(setting: dict[str, Any]) -> dict[str, Any]:
    placed = {} if setting["device"] == "cpu" else {"device": setting["device"], "workers": 0}  # many share its host
    return {
        **PAIRS[setting["pair"]].train, "epochs": setting["epochs"], "batch": 16, "amp": False,
        "patience": 0, "plots": False,
        "cache": True, "val": False,  # the last epoch's weights are taken, whatever the method
        **placed,
    }  # fmt: skip


def _with_edgekd(
    row: Row, data_yaml: str, setting: dict[str, Any], folder: Path, threads: int, classes: tuple[str, ...]
) -> Path:
    from edgekd.detectors.class_map import ClassMap
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.families import open_detector, trainable
    from edgekd.distill.contract import distiller_type
    from edgekd.stages.families import with_defaults
    from edgekd.training.arguments import split_arguments
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
    student = trainable(open_detector(None, Asked(pair.student, None, classes, 3, "student")), "student")
    train, own = split_arguments(with_defaults(student.spec.family, _arguments(setting)))
    plan = FitPlan(
        student=student, initialised=False, data_yaml=Path(data_yaml), train=train, own=own, head=pair.head,
        seed=row.seed, threads=threads, distillers=methods,
    )  # fmt: skip
    teachers = {}
    if methods:
        teacher = open_detector(None, Asked(pair.teacher, pair.weights, (), 3, "teacher"))
        teachers["teacher"] = Teacher(teacher.frozen(), ClassMap.identity(len(classes)))
    return fit(plan, teachers, folder, str(row.key)).weights


def _with_engine(
    row: Row, data_yaml: str, setting: dict[str, Any], folder: Path, threads: int, classes: tuple[str, ...]
) -> Path:
    """Ultralytics' own distillation: the same student YAML, its trainer, `distill_model` and `dis`."""
    import torch

    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector

    from edgekd.training.engines.trainer import YoloTrainer  # isort: skip  (only to build the student from a width-0.125 YAML)

    pair = PAIRS[setting["pair"]]
    teacher = UltralyticsDetector.opened(Asked(pair.teacher, pair.weights, (), 3, "teacher"))
    torch.save({"model": teacher.module, "train_args": {}}, folder / "teacher.pt")
    overrides = {
        **_arguments(setting), "model": f"{pair.student}.yaml", "data": data_yaml, "seed": row.seed,
        "pretrained": False, "save_dir": str(folder / "engine"), "distill_model": str(folder / "teacher.pt"),
        "dis": row.weight, "verbose": False,
    }  # fmt: skip
    torch.set_num_threads(threads)
    trainer = YoloTrainer(overrides=overrides)
    student = UltralyticsDetector.opened(Asked(pair.student, None, classes, 3, "student"))
    trainer.prepare(student, False, None, False, None)
    trainer.train()
    return Path(trainer.best)
