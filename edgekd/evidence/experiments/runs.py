"""Whole commands, as users type them, in a process of their own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgekd.atomic import write_text
from edgekd.errors import EnvironmentFault
from edgekd.evidence.contract import Work
from edgekd.evidence.shipped import MODEL, arguments, weights
from edgekd.files import read_text

_PROGRAM = "import sys; sys.path = [entry for entry in sys.path if entry]; from edgekd.__main__ import main; main()"
LEFT = ("student.*", "terms.csv", "epochs.csv")  # by a training, in its folder


def recipe(work: Work, name: str, **train: Any) -> Path:
    """A short distillation of the embedded data set, on the scale's device."""
    scale, path = work.scale, work.folder / f"{name}.yaml"
    train = {**arguments(scale.ap_px, 4, 8), "checkpoint_minutes": 0.00001, **train}
    if scale.device == "cpu":
        train["device"] = "cpu"
    content = {
        "name": name, "seed": 0, "control": False,
        "data": {"format": "digits", "imgsz": scale.ap_px, "train": scale.images, "val": 8, "test": 1},
        "teacher": {"model": MODEL, "weights": str(weights())}, "student": {"model": "yolo11p"},
        "distill": ["logit", "ld"], "train": train, "export": [], "devices": [],
    }  # fmt: skip
    write_text(path, json.dumps(content))
    return path


def begin(recipe_file: Path, out: Path) -> subprocess.Popen[bytes]:
    """`edgekd distill RECIPE --out OUT`, its words in a file beside."""
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, "distill", str(recipe_file), "--out", str(out)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=out.parent,
        )  # fmt: skip


def finish(recipe_file: Path, out: Path) -> None:
    """The same to its end.

    Raises:
        EnvironmentFault: it did not end well.
    """
    code = begin(recipe_file, out).wait()
    if code:
        said = [line for line in read_text(out.with_suffix(".log")).splitlines() if line.strip()]
        raise EnvironmentFault(f"edgekd distill ended with exit code {code}: {' / '.join(said[-2:])}")


def hashes(out: Path) -> dict[str, str]:
    """SHA-256 of what the training left."""
    found = sorted(path for pattern in LEFT for path in (out / "student").glob(pattern))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
