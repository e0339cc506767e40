"""The files that a training leaves behind."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgekd.atomic import write_bytes, write_json, write_text
from edgekd.training.engines.checkpoint import save_student
from edgekd.training.plan import FitPlan


def write_outputs(folder: Path, work: Path, plan: FitPlan, log: Mapping[str, Any], best: torch.Tensor) -> None:
    """The student's weights as its family saves them, `epochs.csv`, and of a distillation its terms.

    Args:
        work: the engine's folder, which is deleted.
        log: of `Resume`.
        best: the engine's best checkpoint, byte for byte (uint8).
    """
    _write_csv(folder / "epochs.csv", log["epochs"])
    if plan.distillers:
        _write_csv(folder / "terms.csv", log["terms"])
        write_json(folder / "first_steps.json", log["first_steps"])
    write_bytes(work / "best.pt", best.numpy().tobytes())
    save_student(plan.student, work / "best.pt", folder, plan.train.get("imgsz", 640))
    shutil.rmtree(work, ignore_errors=True)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows that an earlier version has kept may lack columns: empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
