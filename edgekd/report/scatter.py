"""Accuracy against latency: every artifact on every device, the Pareto front of each device, the torch student's AP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgekd.report.numbers import ROLE_NAMES, ap
from edgekd.report.pareto import is_comparable
from edgekd.report.plots import Figure, Key
from edgekd.report.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    SHAPES,
    TOP,
    WIDTH,
    Scale,
    axes,
    drawing,
    element,
    marker,
    padded,
    plain,
)

Box = tuple[float, float, float, float]  # left, top, right, bottom in px
_DASHES = {"student": "2 4", "control": "7 4"}
_LINE_PX, _LETTER_PX = 14, 7.4  # of the widest bold letters in use, or names are cut off at the edge
_LEAST_AP_RANGE = 0.02


def accuracy_against_latency(report: Mapping[str, Any]) -> Figure | None:
    """The scatter plot; None where no artifact has both an AP and a valid latency."""
    shown = [artifact for artifact in report["artifacts"] if is_comparable(artifact)]
    if not shown:
        return None
    levels = {role: report[role]["ap"] for role in ("student", "control") if report[role]["ap"] is not None}
    x, y = _scales(shown, list(levels.values()))
    devices = sorted({artifact["device"] for artifact in shown})
    parts = [axes((x, y), ("median end-to-end latency, ms", "AP on val"), (plain, lambda tick: f"{tick:.3f}"))]
    legend = []
    for role, level in levels.items():
        ends = {"x1": x.start_px, "x2": x.end_px, "y1": y(level), "y2": y(level)}
        parts.append(element("line", **ends, class_=f"line {role}", stroke_dasharray=_DASHES[role]))
        legend.append(Key(f"{ROLE_NAMES[role]} in torch", role, _DASHES[role], ap(level)))
    for device in devices:
        front = [a for a in shown if a["device"] == device and a["pareto"]]
        parts.append(element("path", d=_steps(front, x, y), class_="line front"))
    lines = [(LEFT, y(level) - 3, WIDTH, y(level) + 3) for level in levels.values()]
    parts += _labels(shown, x, y, lines)
    parts += [_marker(a, x, y, SHAPES[devices.index(a["device"]) % len(SHAPES)]) for a in shown]
    legend.append(Key("Pareto front (filled points)", "front"))
    left_out = len(report["artifacts"]) - len(shown)
    note = f"{left_out} without AP or valid latency left out. " if left_out else ""
    note += "Better is up and left; the AP axis does not start at 0."
    if len(devices) > 1:
        shapes = (f"{SHAPES[index % len(SHAPES)]} for {device}" for index, device in enumerate(devices))
        note += f" Shapes: {', '.join(shapes)}."
    sources = ("validate/*.json", "profile/*.json")
    return Figure("Accuracy against latency", drawing("Accuracy against latency", parts), tuple(legend), note, sources)


def _scales(shown: Sequence[Mapping[str, Any]], levels: Sequence[float]) -> tuple[Scale, Scale]:
    times = [artifact["latency_ms"]["p50"] for artifact in shown]
    values = [artifact["ap"] for artifact in shown] + list(levels)
    if min(times) > 0 and max(times) > 10 * min(times):
        x = Scale(min(times) / 1.3, max(times) * 1.6, LEFT, WIDTH - RIGHT, log=True)
    else:
        x = Scale(0.0, max(times) * 1.25 or 1.0, LEFT, WIDTH - RIGHT)
    low, high = padded(values, _LEAST_AP_RANGE, share=0.15)
    return x, Scale(max(low, 0.0), high, HEIGHT - BOTTOM, TOP)


def _steps(front: Sequence[Mapping[str, Any]], x: Scale, y: Scale) -> str:
    """Stairs: what AP is to be had within a latency."""
    points = sorted((a["latency_ms"]["p50"], a["ap"]) for a in front)
    path = [f"M{x(points[0][0]):.1f} {y(points[0][1]):.1f}"]
    path += [f"H{x(time):.1f} V{y(value):.1f}" for time, value in points[1:]]
    return " ".join([*path, f"H{x.end_px:.1f}"])


def _marker(artifact: Mapping[str, Any], x: Scale, y: Scale, shape: str) -> Markup:
    at, up = x(artifact["latency_ms"]["p50"]), y(artifact["ap"])
    title = f"{artifact['target']}@{artifact['device']}: AP {ap(artifact['ap'])}"
    return marker(shape, at, up, title, "point" if artifact["pareto"] else "point off")


def _labels(shown: Sequence[Mapping[str, Any]], x: Scale, y: Scale, lines: Sequence[Box]) -> list[Markup]:
    """Names beside the points, moved up or down until they cover nothing; a thin line leads to the point then."""
    marks = [(x(a["latency_ms"]["p50"]), y(a["ap"])) for a in shown]
    taken = [*lines, *((at - 7, up - 7, at + 7, up + 7) for at, up in marks)]
    parts = []
    for artifact, (at, up) in sorted(zip(shown, marks, strict=True), key=lambda pair: (pair[1][1], pair[1][0])):
        text = artifact["target"]
        left, box = _free_place(at, up, len(text) * _LETTER_PX, taken)
        taken.append(box)
        middle = (box[1] + box[3]) / 2
        if abs(middle - up) > 1:
            near = box[2] + 2 if left else box[0] - 2
            parts.append(element("line", x1=at, y1=up, x2=near, y2=middle, class_="leader"))
        start, anchor = (box[2], "end") if left else (box[0], "start")
        parts.append(element("text", text, x=start, y=middle + 4, class_="tick strong", text_anchor=anchor))
    return parts


def _free_place(at: float, up: float, wide: float, taken: Sequence[Box]) -> tuple[bool, Box]:
    """(whether left of its point, box) of the nearest place for a label that is inside the chart and free."""
    for step in range(16):
        for shift in (step * _LINE_PX, -step * _LINE_PX):
            for left in (False, True):
                start = at - 11 - wide if left else at + 11
                box = (start, up + shift - _LINE_PX / 2, start + wide, up + shift + _LINE_PX / 2)
                inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
                if inside and not any(_overlap(box, other) for other in taken):
                    return left, box
    return False, (at + 11, up - _LINE_PX / 2, at + 11 + wide, up + _LINE_PX / 2)


def _overlap(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
