"""One training of `distill_gain.py`: what a row says, and its AP on the split that it names."""

from __future__ import annotations

import os
import resource
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Models:
    """Who learns from whom.

    Attributes:
        weights: of the teacher.
        head: the student's branch that is measured; None of a head that has one.
        train: of the student, above what all have and below what its family has.
        start: weights that every row begins with; None: random ones, of the row's seed.
        made_by: weights -> what trains them when they are not there: the recipe whose student they are, with `data`
            on the photographs that the command names, or a script for a family that edgekd does not train.
    """

    teacher: str
    weights: Path
    student: str
    head: str | None
    train: dict[str, Any]
    start: Path | None = None
    made_by: dict[Path, Path] = field(default_factory=dict)


ADAMW = {
    "nbs": 16, "optimizer": "AdamW", "lr0": 0.005, "cos_lr": True, "warmup_bias_lr": 0.0,
}  # fmt: skip
DIGITS = {"imgsz": 96, "warmup_epochs": 1.0, "mosaic": 0.0, "fliplr": 0.0}


YOLO11N = ROOT / "recipes/weights/digits-yolo11n.safetensors"


def _made(name: str) -> Path:
    return ROOT / "runs" / name / "student" / "student.safetensors"


RTMDET_TINY = _made("digits-rtmdet-teacher")
RTMDET = {RTMDET_TINY: ROOT / "recipes/digits-rtmdet-teacher.yaml"}
FASTER_RCNN = ROOT / "runs/digits-faster-rcnn-teacher/teacher.pth"

PAIRS = {
    "yolo": Models("yolo11n", YOLO11N, "yolo11p", "one2many", {**DIGITS, **ADAMW}),
    "rtdetr": Models(
        "rtdetr-n", ROOT / "recipes/weights/digits-rtdetr-n.safetensors", "rtdetr-p", None,
        {**DIGITS, **ADAMW, "lr0": 0.0005}, start=ROOT / "recipes/weights/digits-rtdetr-p.safetensors",
    ),
    "rtmdet": Models(
        "rtmdet-tiny", RTMDET_TINY, "rtmdet-p", "one2many", {**DIGITS, "mixup": 0.0}, made_by=RTMDET
    ),
    "rtmdet-to-yolo": Models(
        "rtmdet-tiny", RTMDET_TINY, "yolo11p", "one2many", {**DIGITS, **ADAMW}, made_by=RTMDET
    ),
    "yolo-to-rtmdet": Models("yolo11n", YOLO11N, "rtmdet-p", "one2many", {**DIGITS, "mixup": 0.0}),
    "faster-rcnn": Models(
        "fasterrcnn-p", FASTER_RCNN, "yolo11p", "one2many", {**DIGITS, **ADAMW},
        made_by={FASTER_RCNN: ROOT / "benchmarks/torchvision_teacher.py"},
    ),
    "rtdetr-to-yolo": Models(
        "rtdetr-n", ROOT / "recipes/weights/digits-rtdetr-n.safetensors", "yolo11p", "one2many", {**DIGITS, **ADAMW}
    ),
    "photographs": Models(
        "yolo11s", _made("photographs-teacher"), "yolo11p", "one2many", {**ADAMW, "imgsz": 224, "warmup_epochs": 3.0},
        made_by={_made("photographs-teacher"): ROOT / "benchmarks/photographs-teacher.yaml"},
    ),
}  # fmt: skip
# Methods that stand together in one row, with their weights.
COMBINED: dict[str, dict[str, float | str]] = {
    "logit+ld": {"logit": 1.0, "ld": 1.0},
    "logit+ld+score_l2": {"logit": 1.0, "ld": 1.0, "score_l2": 6.0},
    "logit+ld+mimic": {"logit": 1.0, "ld": 1.0, "mimic": "auto"},
    "logit+ld+score_l2+mimic": {"logit": 1.0, "ld": 1.0, "score_l2": 6.0, "mimic": "auto"},
}
# Rows whose method has other keys than its defaults, or that take a part of a method alone.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cwd": ("cwd", {"normalise": "channel"}),
    "kd_detr": ("kd_detr", {"general": 100, "specific": 100}),  # its defaults are for three times the queries
    "od_detr": ("od_detr", {"teacher": "ema"}),
    "detrdistill-prediction": ("detrdistill", {"features": 0.0, "queries": 0.0}),
    "detrdistill-features": ("detrdistill", {"prediction": 0.0, "queries": 0.0}),
}


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        method: of edgekd, `control`, the engine's `distill_model`, or `teacher`, which is not trained; with `:gradient`
            behind it, an automatic weight is one of gradients.
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
    from edgekd.evidence import gain_rows
    from edgekd.stages.accuracy import Stopwatch

    folder = scratch / "-".join(str(part) for part in row.key).replace("+", "_").replace(":", "_")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["YOLO_CONFIG_DIR"] = str(scratch / "settings")
    pair, device = PAIRS[setting["pair"]], setting["device"]
    names = load(YoloData(format="yolo", path=data_yaml), folder / "data", Path()).class_names
    models = gain_rows.Models(pair.teacher, pair.weights, pair.student, pair.head, pair.start)
    how = gain_rows.How(models, names, Path(data_yaml), _arguments(setting), threads, device)
    watch = Stopwatch()
    if row.method == "teacher":
        how, weights = replace(how, models=replace(models, student=pair.teacher, head=None)), pair.weights
    elif row.method == "distill_model":
        weights = gain_rows.with_engine(how, float(row.weight), row.seed, folder)
    else:
        weights = gain_rows.with_methods(how, _methods(row), row.seed, folder)
    seconds = watch.seconds()
    found = gain_rows.accuracy(how, weights, row.split, pair.train["imgsz"], folder / "measured")
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "setting": setting["name"], "device": setting["device_name"], **asdict(row), **found,
        "seconds": round(seconds, 1), "peak_mb": _peak_mb(device),
    }  # fmt: skip


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
    placed = {} if setting["device"] == "cpu" else {"workers": 0}  # many share the host of a GPU
    return {
        **PAIRS[setting["pair"]].train, "epochs": setting["epochs"], "batch": 16, "amp": False,
        "patience": 0, "plots": False,
        "cache": True, "val": False,  # the last epoch's weights are taken, whatever the method
        **placed,
    }  # fmt: skip


def _methods(row: Row) -> tuple[tuple[str, Any], ...]:
    """Of a row, with their configs."""
    from edgekd.distill.contract import distiller_type

    method, _, share_of = row.method.partition(":")
    auto = {"weight": "auto", "share_of": share_of or "loss"}
    made = []
    for part, weight in COMBINED.get(method, {method: 1.0}).items() if method != "control" else ():
        name, keys = VARIANTS.get(part, (part, {}))
        balance = auto if "auto" in (row.weight, weight) else {"weight": float(weight) * float(row.weight)}
        made.append((name, distiller_type(name).config_type(**balance, **keys)))
    return tuple(made)
