"""Figures of the artifact that would ship: precision and recall over the threshold, calibration, confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgekd.report.numbers import percent
from edgekd.report.plots import Figure, Key, Line, line_chart
from edgekd.report.svg import WIDTH, drawing, element

MOST_CLASSES = 12  # of a matrix that can be read
_CELL, _LEFT, _TOP = 34.0, 96.0, 8.0
_LONGEST = 12


def figures(shipping: Mapping[str, Any] | None, classes: Sequence[str]) -> list[Figure]:
    """Of `shipping` in the report; none where nothing was diagnosed."""
    if shipping is None:
        return []
    found = [_over_threshold(shipping)]
    found += [_precision_recall(shipping)] if any(shipping["curve"]["recall"]) else []
    found += [_calibration(shipping)] if sum(shipping["calibration"]["count"]) else []
    found += [_matrix(shipping, classes)] if 0 < len(classes) <= MOST_CLASSES else []
    return found


def _over_threshold(shipping: Mapping[str, Any]) -> Figure:
    curve, best = shipping["curve"], shipping["best_f1"]
    point = min(range(len(curve["threshold"])), key=lambda at: abs(curve["threshold"][at] - shipping["threshold"]))
    lines = [
        Line(Key(title, style, dash, f"{curve[key][point]:.3f}"), _pairs(curve["threshold"], curve[key]))
        for key, title, style, dash in (
            ("precision", "Precision", "term1", "7 4"), ("recall", "Recall", "term2", "2 4"),
            ("f1", "F1", "student", None),
        )
    ]  # fmt: skip
    at = shipping["threshold"]
    lines.append(Line(Key("operating point", "mark", "4 3", f"{at:g}"), ((at, 0.0), (at, 1.0))))
    chart = line_chart("Precision, recall and F1 over the threshold", lines, ("score threshold", "share"))
    note = f"IoU 0.5. The best F1, {best['f1']:.3f}, is at {best['threshold']:g}; the legend has those at {at:g}."
    return Figure("Precision, recall, F1", chart, tuple(line.key for line in lines), note, (shipping["source"],))


def _precision_recall(shipping: Mapping[str, Any]) -> Figure:
    curve = shipping["curve"]
    pairs = zip(curve["recall"][::-1], curve["precision"][::-1], strict=True)  # from the highest threshold on
    lines = [Line(Key(shipping["subject"], "student"), tuple(pair for pair in pairs if pair[0]))]
    chart = line_chart("Precision over recall", lines, ("recall", "precision"))
    note = f"All classes together, IoU 0.5, thresholds from {shipping['least_score']:g} to 0.99."
    return Figure("Precision over recall", chart, (lines[0].key,), note, (shipping["source"],))


def _calibration(shipping: Mapping[str, Any]) -> Figure:
    measured = shipping["calibration"]
    points = tuple((x, y) for x, y in zip(measured["score"], measured["right"], strict=True) if x is not None)
    ideal = Line(Key("as sure as right", "mark", "2 4"), ((0.0, 0.0), (1.0, 1.0)))
    lines = [ideal, Line(Key(shipping["subject"], "student"), points)]
    chart = line_chart(
        "Share of right detections over their score", lines, ("mean score of the bin", "share that is right")
    )
    above = [(x, y) for x, y in points if x >= 0.75]
    sure = f" Of detections that say {above[0][0]:.2f}, {percent(above[0][1])} are right." if above else ""
    count, least = sum(measured["count"]), shipping["least_score"]
    apart = f"mean distance {measured['error']:.3f}"
    note = f"Ten bins of the score, {count:,} detections from {least:g} on; {apart}.{sure}"
    return Figure("Calibration", chart, tuple(line.key for line in lines), note, (shipping["source"],))


def _matrix(shipping: Mapping[str, Any], classes: Sequence[str]) -> Figure:
    rows, names = shipping["matrix"], [*(_short(name) for name in classes), "background"]
    size = len(names)
    parts: list[Markup] = []
    for actual, row in enumerate(rows):
        whole = max(sum(row), 1)
        y = _TOP + actual * _CELL
        label = {"x": _LEFT - 6, "y": y + _CELL / 2 + 4, "text_anchor": "end", "class_": "tick"}
        parts.append(element("text", names[actual], **label))
        for taken, count in enumerate(row):
            if actual == taken == size - 1:
                continue
            x, share = _LEFT + taken * _CELL, count / whole
            box = {"x": x + 1, "y": y + 1, "width": _CELL - 2, "height": _CELL - 2}
            parts.append(element("rect", **box, class_="cell"))
            style = "cell right" if actual == taken else "cell wrong"
            parts.append(
                element("rect", **box, class_=style, fill_opacity=round(0.1 + 0.5 * share, 3) if count else 0.0)
            )
            middle = {"x": x + _CELL / 2, "y": y + _CELL / 2 + 4, "text_anchor": "middle", "class_": "count"}
            parts.append(element("text", f"{count}" if count else "", **middle))
    bottom = _TOP + size * _CELL
    for taken, name in enumerate(names):
        x = _LEFT + taken * _CELL + _CELL / 2 + 4
        turn = f"translate({x:.1f} {bottom + 8:.1f}) rotate(-45)"
        parts.append(element("text", name, transform=turn, text_anchor="end", class_="tick"))
    shown = drawing(
        f"Confusion matrix of {shipping['subject']}: rows are the truth, columns what was found",
        parts, max(_LEFT + size * _CELL + 8, WIDTH), bottom + 74,
    )  # fmt: skip
    at = f"At score {shipping['threshold']:g}, IoU 0.5."
    note = f"{at} Rows are the truth, columns what was found; the darker, the larger the share of the row."
    note += " Last column: missed. Last row: invented."
    return Figure("Confusions", shown, (), note, (shipping["source"],))


def _pairs(xs: Sequence[float], ys: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple(zip(xs, ys, strict=True))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
