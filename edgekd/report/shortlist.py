"""A shortlist as one page that loads nothing: latency against work, size and published AP, and tables of the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgekd.report import numbers
from edgekd.report.page import environment, filled
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
    plain,
)

_COLOURS = 5


def page(told: Mapping[str, Any]) -> str:
    """HTML of a shortlist.

    Args:
        told: content of its JSON file. Only what was measured is drawn.
    """
    measured = [one for one in told["candidates"] if one["status"] == "measured"]
    template = environment("digits", "count").get_template("shortlist.html.j2")
    others = [one for one in told["candidates"] if one["status"] in ("invalid", "impossible")]
    waiting = [one for one in told["candidates"] if one["status"] == "open"]
    return filled(template, told=told, measured=measured, others=others, waiting=waiting, figures=figures(measured))


def figures(measured: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """The plots, of candidates that were measured."""
    drawn = [
        _against(measured, "Latency against work", "gflops", "GFLOPs of one image", log=True),
        _against(measured, "Latency against image size", "size_px", "side of the input, px", log=False),
        _against(measured, "Latency against published AP", "coco_ap", "AP on COCO as published, percent", log=False),
    ]
    return [figure for figure in drawn if figure]


def _against(measured: Sequence[Mapping[str, Any]], title: str, key: str, axis: str, *, log: bool) -> Figure | None:
    """p90 over a fact of the candidates that have it."""
    shown = [one for one in measured if one[key] is not None and one["p90_ms"]]
    if not shown:
        return None
    series = list(dict.fromkeys(one["series"] for one in measured))
    targets = list(dict.fromkeys(one["target"] for one in measured))
    limits = sorted({one["budgets"]["max_p90_ms"] for one in shown if "max_p90_ms" in one["budgets"]})
    x = _scale([float(one[key]) for one in shown], LEFT, WIDTH - RIGHT, log=log)
    y = _scale([*(one["p90_ms"] for one in shown), *limits], HEIGHT - BOTTOM, TOP, log=True)
    parts = [axes((x, y), (axis, "p90 end to end, ms"), (plain, plain))]
    parts += [
        element("line", x1=x.start_px, x2=x.end_px, y1=y(limit), y2=y(limit), class_="budget") for limit in limits
    ]
    parts += [_point(one, key, (x, y), series, targets) for one in shown]
    legend = tuple(Key(name, f"term{index % _COLOURS}") for index, name in enumerate(series))
    return Figure(title, drawing(title, parts), legend, _note(measured, shown, targets, limits), ())


def _point(
    one: Mapping[str, Any], key: str, scales: tuple[Scale, Scale], series: Sequence[str], targets: Sequence[str]
) -> Markup:
    x, y = scales
    off = " off" if one["dominated_by"] or one["fits"] is False else ""
    style = f"dot term{series.index(one['series']) % _COLOURS}{off}"
    title = f"{one['name']}: p90 {numbers.digits(one['p90_ms'])} ms, {key} {numbers.digits(one[key])}"
    shape = SHAPES[targets.index(one["target"]) % len(SHAPES)]
    return marker(shape, x(float(one[key])), y(one["p90_ms"]), title, style)


def _scale(values: Sequence[float], start_px: float, end_px: float, *, log: bool) -> Scale:
    """With some air on both sides; of one value alone, too."""
    low, high = min(values), max(values)
    if log:
        return Scale(low / 1.3, high * 1.3, start_px, end_px, log=True)
    air = (high - low) * 0.1 or max(abs(high) * 0.1, 1.0)
    return Scale(low - air, high + air, start_px, end_px)


def _note(measured: Sequence[Any], shown: Sequence[Any], targets: Sequence[str], limits: Sequence[float]) -> str:
    told: Callable[[str], str] = lambda target: f"{SHAPES[targets.index(target) % len(SHAPES)]} for {target}"  # noqa: E731
    note = "Lower is better. Faint: dominated, or over a budget."
    if len(targets) > 1:
        note += f" Shapes: {', '.join(map(told, targets))}."
    if limits:
        note += f" Dashed: {' and '.join(f'{limit:g} ms' for limit in limits)}, the budget."
    left_out = len(measured) - len(shown)
    return note + (f" {left_out} without such a figure left out." if left_out else "")
