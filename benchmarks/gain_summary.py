"""What the rows of `distill_gain.py` say: means, paired differences, and the screening in its order."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

from gain_plan import choose


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A table of val and one of test, beside the weights that val has chosen."""
    return {
        "rows": len(rows), "chosen_weights": choose(rows),
        **{split: table([row for row in rows if row["split"] == split]) for split in ("val", "test")},
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean AP with a 95 % interval, and paired differences (same seed) to control and to `distill_model`; best first.

    `time` and `peak_mb` are of whole trainings: the median ratio of seconds to the control's of the same seed. Nothing
    is judged where the teacher was measured, too, and is no better than the best control.
    """
    from edgekd.measure.bootstrap import mean_interval

    seen: dict[tuple[str, float | str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        if row["method"] != "teacher":
            seen[row["method"], row["weight"]][row["seed"]] = row
    controls = next((found for (method, _), found in seen.items() if method == "control"), {})
    engines = next((found for (method, _), found in seen.items() if method == "distill_model"), {})
    teacher = next((row["ap"] for row in rows if row["method"] == "teacher"), None)
    best_control = max((row["ap"] for row in controls.values()), default=0.0)
    weak = teacher is not None and teacher <= best_control
    made = []
    for (method, weight), found in seen.items():
        entry: dict[str, Any] = {"method": method, "weight": weight, "seeds": len(found)}
        entry["ap"] = _interval(mean_interval, [row["ap"] for row in found.values()])
        for name, rival in (("control", controls), ("distill_model", engines)):
            shared = sorted(set(found) & set(rival))
            entry[f"minus_{name}"] = _interval(
                mean_interval, [found[seed]["ap"] - rival[seed]["ap"] for seed in shared]
            )
        times = [row["seconds"] / controls[seed]["seconds"] for seed, row in found.items() if seed in controls]
        entry["time"] = round(median(times), 2) if times else None
        entry["judged"] = "teacher too weak: not judged" if weak and method != "control" else "yes"
        entry["peak_mb"] = max((row["peak_mb"] for row in found.values() if "peak_mb" in row), default=None)
        made.append(entry)
    return sorted(made, key=lambda entry: -(entry["ap"] or {"estimate": 0})["estimate"])


def screened(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The screening, best first: AP of one seed on val, and its difference to the control."""
    control = next((row["ap"] for row in rows if row["method"] == "control"), None)
    return [
        {
            "method": row["method"], "ap": round(row["ap"], 4), "seconds": row["seconds"],
            "minus_control": None if control is None else round(row["ap"] - control, 4),
        }
        for row in sorted(rows, key=lambda row: -row["ap"])
    ]  # fmt: skip


def _interval(mean_interval: Any, values: list[float]) -> dict[str, float] | None:
    if len(values) < 2:
        return None
    interval = mean_interval(values)
    return {"estimate": round(interval.estimate, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}
