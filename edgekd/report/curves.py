"""Learning rate and losses of the trainings, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekd.report.files import RunFiles, number
from edgekd.report.numbers import ROLE_NAMES, digits
from edgekd.report.plots import Figure, Key, Line, line_chart, series_key

_LOSSES = ("box_loss", "cls_loss", "dfl_loss")
_ROLES = ("control", "student")


def training_curves(files: RunFiles) -> list[Figure]:
    """Losses on train and val of the student and, for the comparison, the control; the learning rate; what there is."""
    rows = {role: files.csv(f"{role}/epochs.csv") for role in _ROLES}
    found = [_losses(rows, split) for split in ("train", "val")]
    found.append(_learning_rate(rows))
    return [figure for figure in found if figure]


def _losses(rows: Mapping[str, Sequence[Mapping[str, str]]], split: str) -> Figure | None:
    """The detection losses alone: those of methods stand under Distillation."""
    prefix = "val_" if split == "val" else ""
    lines, sources = [], []
    for role, dash in (("control", "7 4"), ("student", None)):
        for index, loss in enumerate(_LOSSES):
            points = _points(rows[role], f"{prefix}{loss}")
            if len(points) > 1:
                label = f"{ROLE_NAMES[role]}, {loss.removesuffix('_loss')}"
                lines.append(Line(Key(label, f"term{index}", dash, digits(points[-1][1])), points))
                sources.append(f"{role}/epochs.csv")
    if not lines:
        return None
    title = f"Losses on {split}"
    note = "Of the detector itself, weighted; one on val that rises while that on train falls says overfitting."
    chart = line_chart(title, lines, ("epoch", "loss"))
    return Figure(title, chart, tuple(line.key for line in lines), note, tuple(dict.fromkeys(sources)))


def _learning_rate(rows: Mapping[str, Sequence[Mapping[str, str]]]) -> Figure | None:
    points = _points(rows["student"], "lr")
    if len(points) < 2:
        return None
    line = Line(series_key("weights", 0), points)
    chart = line_chart("Learning rate", [line], ("epoch", "learning rate"))
    note = "At the end of each epoch; that of biases differs in the warm-up. Control and student have the same."
    return Figure("Learning rate", chart, (line.key,), note, ("student/epochs.csv",))


def _points(rows: Sequence[Mapping[str, str]], column: str) -> tuple[tuple[float, float], ...]:
    pairs = ((number(row.get("epoch")), number(row.get(column))) for row in rows)
    return tuple((x, y) for x, y in pairs if x is not None and y is not None)
