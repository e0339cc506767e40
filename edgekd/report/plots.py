"""The figures of a report as inline SVG: AP over epochs, loss terms over steps, latency, accuracy against latency."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from edgekd.distill.terms import SHARE_LIMITS
from edgekd.report import numbers
from edgekd.report.files import RunFiles, number
from edgekd.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, axes, drawing, element, plain

MAX_POINTS = 120
_DASHES = (None, "7 4", "2 4", "9 3 2 3")
_TERM_COLOURS = 5
_ROOM_FOR_NAMES = 0.45  # beside the first and the last point, in points
_LETTER_PX = 6.6


@dataclass(frozen=True)
class Key:
    """One entry of a legend: `colour` is a class of the style sheet, `value` what the line ends at."""

    label: str
    colour: str
    dash: str | None = None
    value: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption, legend and the files that it was drawn from."""

    title: str
    drawing: Markup
    legend: tuple[Key, ...]
    note: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A line of a chart, and its legend entry."""

    key: Key
    points: tuple[tuple[float, float], ...]


def ap_over_epochs(files: RunFiles, report: Mapping[str, Any]) -> Figure | None:
    """AP after each epoch of control and student, with the teacher's AP as a level."""
    lines, sources = [], []
    for role, dash in (("control", "7 4"), ("student", None)):
        name = f"{role}/epochs.csv"
        points = _points(files.csv(name), "epoch", "ap")
        if points and report[role]["ap"] is not None:
            lines.append(Line(Key(numbers.ROLE_NAMES[role], role, dash, numbers.ap(points[-1][1])), points))
            sources.append(name)
    if not lines:
        return None
    teacher = report["teacher"]["ap"]
    if teacher is not None:
        first, last = _extent(x for line in lines for x, _ in line.points)
        level = ((first, teacher), (last, teacher))
        lines.insert(0, Line(Key("Teacher (its AP on val)", "teacher", "2 4", numbers.ap(teacher)), level))
        sources.append(report["teacher"]["source"])
    chart = line_chart("AP over epochs", lines, ("epoch", "AP on val"))
    note = "As the training engine measures it after each epoch, which may differ slightly from the AP of the tables."
    return Figure("AP over epochs", chart, tuple(line.key for line in lines), note, tuple(sources))


def series_key(label: str, index: int, value: str = "") -> Key:
    """The legend entry of one of many lines: colours, then dashes, tell them apart."""
    return Key(label, f"term{index % _TERM_COLOURS}", _DASHES[index // _TERM_COLOURS % len(_DASHES)], value)


def loss_terms(files: RunFiles) -> list[Figure]:
    """Two charts over the training steps: weighted value of each loss term, and its share of the whole loss."""
    name = "student/terms.csv"
    by_term: dict[str, list[Mapping[str, str]]] = {}
    for row in files.csv(name):
        by_term.setdefault(row["term"], []).append(row)
    if not by_term:
        return []
    figures = []
    for column, title in (("weighted", "Weighted loss terms"), ("share", "Share of the loss")):
        lines = [
            Line(series_key(term, index), points)
            for index, (term, rows) in enumerate(by_term.items())
            if (points := thinned(_points(rows, "step", column)))
        ]
        if not lines:
            continue
        is_share = column == "share"
        chart = line_chart(title, lines, ("step", column), levels=SHARE_LIMITS if is_share else (), percent=is_share)
        note = "Means over equal stretches of steps."
        note += " Dotted: the limits of 1 % and 50 % beyond which the first steps give a warning." if is_share else ""
        figures.append(Figure(title, chart, tuple(line.key for line in lines), note, (name,)))
    return figures


def thinned(points: Sequence[tuple[float, float]], most: int = MAX_POINTS) -> tuple[tuple[float, float], ...]:
    """At most so many points: the means of equal stretches."""
    size = math.ceil(len(points) / most)
    if size <= 1:
        return tuple(points)
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in stretches)


def latency_histograms(artifacts: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """End-to-end latency of each artifact on each device; artifacts of one device share their axis if they are near."""
    drawn = [artifact for artifact in artifacts if (artifact["histogram"] or {}).get("counts")]
    figures = []
    for artifact in drawn:
        peers = [_body(other["histogram"]) for other in drawn if other["device"] == artifact["device"]]
        low, high = _body(artifact["histogram"])
        if max(top for _, top in peers) < 4 * min(top for _, top in peers):
            low, high = min(bottom for bottom, _ in peers), max(top for _, top in peers)
        name = f"{artifact['target']}@{artifact['device']}"
        figures.append(_histogram(name, artifact, low, high))
    return figures


def _histogram(name: str, artifact: Mapping[str, Any], low: float, high: float) -> Figure:
    width, height, base, top = 240.0, 128.0, 90.0, 6.0
    edges, counts = artifact["histogram"]["edges_ms"], artifact["histogram"]["counts"]
    air = (high - low) * 0.03 or abs(high) * 0.05 or 1.0
    x = Scale(low - air, high + air, 10, width - 10)
    shown = [(a, b, n) for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True) if b <= high * 1.000001]
    peak = max((n / (b - a) for a, b, n in shown), default=1.0) or 1.0
    parts = []
    for start, end, samples in shown:
        if samples:
            tall = (base - top - 4) * samples / (end - start) / peak
            box = {"x": x(start), "y": base - tall, "width": max(x(end) - x(start) - 0.5, 0.75), "height": tall}
            parts.append(element("rect", **box, class_="bar"))
    parts.append(element("line", x1=x.start_px, x2=x.end_px, y1=base, y2=base, class_="axis"))
    for tick in x.ticks(4):
        parts.append(element("text", plain(tick), x=x(tick), y=base + 16, class_="tick", text_anchor="middle"))
    parts.append(element("text", "ms", x=width / 2, y=base + 33, class_="label", text_anchor="middle"))
    legend = []
    for key, dash in (("p50", None), ("p90", "4 3")):
        value = artifact["latency_ms"][key]
        if value is not None and value <= high + air:
            ends = {"x1": x(value), "x2": x(value), "y1": top, "y2": base}
            parts.append(element("line", **ends, class_="mark", stroke_dasharray=dash))
        legend.append(Key(key, "mark", dash, f"{numbers.digits(value)} ms"))
    total = artifact["latency_ms"]["count"] or sum(counts)
    beyond = sum(counts) - sum(samples for _, _, samples in shown)
    tail = f"; {beyond} slower ones, up to {numbers.digits(edges[-1])} ms, lie to the right" if beyond else ""
    label = f"Histogram of the end-to-end latency of {name}"
    note = f"{total} samples{tail}."
    return Figure(name, drawing(label, parts, width, height), tuple(legend), note, (artifact["sources"]["latency"],))


def _body(histogram: Mapping[str, Any]) -> tuple[float, float]:
    """The range without a wide last bin, which holds the tail."""
    edges = histogram["edges_ms"]
    widths = [b - a for a, b in pairwise(edges)]
    has_tail = len(widths) > 1 and widths[-1] > 2 * max(widths[:-1])
    return edges[0], edges[-2] if has_tail else edges[-1]


def line_chart(
    label: str,
    lines: Sequence[Line],
    titles: tuple[str, str],
    levels: Sequence[float] = (),
    percent: bool = False,
    names: Sequence[str] = (),
) -> Markup:
    """Lines over one x; `titles` of the axes. The y axis starts at 0, or is logarithmic where values span far.

    Args:
        levels: of horizontal lines.
        percent: whether y is a share.
        names: what stands at x = 1, 2, ... in the place of these numbers.
    """
    values = [value for line in lines for _, value in line.points]
    first, last = _extent(at for line in lines for at, _ in line.points)
    log = min(values) > 0 and max(values) > 50 * min(values) and not percent
    bottom, top = (min(values) / 1.2, max(values) * 1.2) if log else (min(0.0, *values), max(values) * 1.06 or 1.0)
    air = _ROOM_FOR_NAMES if names else 0.0
    x = Scale(first - air, (last if last > first or names else first + 1) + air, LEFT, WIDTH - RIGHT)
    y = Scale(bottom, top if top > bottom else bottom + 1, HEIGHT - BOTTOM, TOP, log)
    text = (lambda tick: f"{100 * tick:.4g} %") if percent else plain
    at_text = _names_at(names, x) if names else plain
    parts = [axes((x, y), titles, (at_text, text))]
    for value in levels:
        if bottom < value < top:
            parts.append(element("line", x1=x.start_px, x2=x.end_px, y1=y(value), y2=y(value), class_="level"))
    for line in lines:
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
        parts.append(element("polyline", points=path, class_=f"line {line.key.colour}", stroke_dasharray=line.key.dash))
        if len(line.points) == 1:
            at, value = line.points[0]
            parts.append(element("circle", cx=x(at), cy=y(value), r=4, class_=f"dot {line.key.colour}"))
    return drawing(f"{label}: {', '.join(line.key.label for line in lines)}", parts)


def _names_at(names: Sequence[str], x: Scale) -> Callable[[float], str]:
    """Texts of ticks at whole numbers, cut to what fits between two of them; none elsewhere."""
    marks = x.ticks()
    gap_px = x(marks[1]) - x(marks[0]) if len(marks) > 1 else x.end_px - x.start_px
    most = max(int(gap_px / _LETTER_PX) - 1, 3)

    def text(tick: float) -> str:
        number = round(tick)
        if tick != number or not 1 <= number <= len(names):
            return ""
        name = names[number - 1]
        return name if len(name) <= most else f"{name[: most - 1]}\u2026"

    return text


def _points(rows: Sequence[Mapping[str, str]], x: str, y: str) -> tuple[tuple[float, float], ...]:
    pairs = ((number(row.get(x)), number(row.get(y))) for row in rows)
    return tuple((at, value) for at, value in pairs if at is not None and value is not None)


def _extent(values: Any) -> tuple[float, float]:
    listed = list(values)
    return min(listed), max(listed)
