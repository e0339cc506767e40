"""The gain over seeds and on the test split: a table of seeds, and a drawing of the differences with their interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgekd.report.numbers import signed
from edgekd.report.plots import Figure, Key
from edgekd.report.svg import LEFT, RIGHT, WIDTH, Scale, drawing, element, padded, plain

_ROW_PX, _TOP, _BELOW = 44, 14, 44


def gain_over_seeds(report: Mapping[str, Any]) -> Figure | None:
    """Student minus control of each seed, on val and on test, and the interval of their mean; None of one seed."""
    splits = {"val": report["seeds"], "test": report["test"]}
    gains = {
        split: found["gain"]
        for split, found in splits.items()
        if found and found["gain"] and found["gain"]["low"] is not None
    }
    if not gains:
        return None
    drawn = _drawing(gains)
    level = next(iter(gains.values()))["level"]
    legend = (Key("one seed", "student"), Key(f"mean, and its {100 * level:.0f} % interval", "front"))
    note = "Student minus control of the same seed. An interval that holds 0 shows no gain."
    sources = tuple({"val": "seeds.json", "test": "test.json"}[split] for split in gains)
    return Figure("Gain over the seeds", drawn, legend, note, sources)


def _drawing(gains: Mapping[str, Mapping[str, Any]]) -> Markup:
    base = _TOP + _ROW_PX * len(gains)
    ends = [value for gain in gains.values() for value in (0.0, gain["low"], gain["high"], *gain["differences"])]
    x = Scale(*padded(ends, 0.02), LEFT, WIDTH - RIGHT)
    parts = [element("line", x1=x(0.0), x2=x(0.0), y1=_TOP, y2=base, class_="level")]
    for row, (split, gain) in enumerate(gains.items()):
        middle = _TOP + _ROW_PX * (row + 0.5)
        parts.append(element("text", f"on {split}", x=LEFT - 8, y=middle + 4, class_="tick", text_anchor="end"))
        parts += _interval(x, middle, gain)
        parts += [element("circle", cx=x(one), cy=middle, r=4, class_="dot student") for one in gain["differences"]]
    parts.append(element("line", x1=x.start_px, x2=x.end_px, y1=base, y2=base, class_="axis"))
    for tick in x.ticks():
        parts.append(element("text", plain(tick), x=x(tick), y=base + 17, class_="tick", text_anchor="middle"))
    middle = (x.start_px + x.end_px) / 2
    parts.append(element("text", "AP above the control", x=middle, y=base + 36, class_="label", text_anchor="middle"))
    label = "; ".join(f"on {split}: {signed(gain['mean'])} AP" for split, gain in gains.items())
    return drawing(f"Gain over the seeds: {label}", parts, WIDTH, base + _BELOW)


def _interval(x: Scale, middle: float, gain: Mapping[str, Any]) -> Sequence[Markup]:
    low, high, mean = x(gain["low"]), x(gain["high"]), x(gain["mean"])
    bars = ((low, high, 0.0, 0.0), (low, low, -7.0, 7.0), (high, high, -7.0, 7.0), (mean, mean, -11.0, 11.0))
    return [
        element("line", x1=start, x2=end, y1=middle + up, y2=middle + down, class_="line front")
        for start, end, up, down in bars
    ]


def seed_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per seed, AP of control and student on val and on test; empty where there is one seed."""
    if not report["seeds"]:
        return []
    tested = {row["seed"]: row for row in (report["test"] or {"seeds": []})["seeds"]}
    return [
        {
            "seed": row["seed"],
            "goes_on": row["seed"] == report["seeds"]["selected"],
            "val": _figures(row),
            "test": _figures(tested.get(row["seed"], {})),
        }
        for row in report["seeds"]["seeds"]
    ]


def _figures(row: Mapping[str, Any]) -> dict[str, float | None]:
    control, student = row.get("control_ap"), row.get("student_ap")
    gain = None if control is None or student is None else student - control
    return {"control": control, "student": student, "gain": gain}
