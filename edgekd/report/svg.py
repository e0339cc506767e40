"""Small SVG charts: elements, scales and axes. Colours and fonts come from the page's style sheet, by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from edgekd.plain import for_html, visible

WIDTH, HEIGHT = 440, 264
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 12, 42


def element(name: str, content: Markup | str = "", /, **attributes: object) -> Markup:
    """An element; text and attribute values are escaped. `class_` is `class`, `stroke_width` is `stroke-width`."""
    parts = []
    for key, value in attributes.items():
        if value is None:
            continue
        shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(visible(shown))}"')
    return Markup(f"<{name}{''.join(parts)}>{escape(for_html(content))}</{name}>")


def join(parts: Sequence[Markup]) -> Markup:
    """Elements one after another."""
    return Markup("").join(parts)


def drawing(label: str, parts: Sequence[Markup], width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """A whole drawing, which screen readers announce by `label`."""
    view = f"0 0 {width:g} {height:g}"
    return element("svg", join(parts), viewBox=view, role="img", aria_label=label, class_="chart")


SHAPES = ("circle", "square", "diamond", "triangle")
_CORNERS = {
    "square": ((-5, -5), (5, -5), (5, 5), (-5, 5)),
    "diamond": ((0, -7), (7, 0), (0, 7), (-7, 0)),
    "triangle": ((0, -6), (6, 5), (-6, 5)),
}


def marker(shape: str, at: float, up: float, title: str, style: str) -> Markup:
    """A point of a scatter plot, one of `SHAPES`; `title` is shown beside the pointer, `style` are its classes."""
    shown = element("title", title)
    if shape == "circle":
        return element("circle", shown, cx=at, cy=up, r=5.5, class_=style)
    points = " ".join(f"{at + dx:.1f},{up + dy:.1f}" for dx, dy in _CORNERS[shape])
    return element("polygon", shown, points=points, class_=style)


@dataclass(frozen=True)
class Scale:
    """Maps values in low..high to pixels in start_px..end_px, linearly or by their logarithm."""

    low: float
    high: float
    start_px: float
    end_px: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start_px + share * (self.end_px - self.start_px)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the scale."""
        return log_ticks(self.low, self.high) if self.log else round_ticks(self.low, self.high, about)


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in low..high, about so many."""
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in low..high, thinned to at most 7; with 2 and 5 between where there are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        candidates = (factor * 10.0**decade for decade in decades for factor in factors)
        ticks = [tick for tick in candidates if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= 7:
            return ticks
    return ticks[:: math.ceil(len(ticks) / 7)]


def axes(
    scales: tuple[Scale, Scale], titles: tuple[str, str], texts: tuple[Callable[[float], str], Callable[[float], str]]
) -> Markup:
    """Grid lines, tick labels (`texts` makes them of values) and titles of the x and the y axis."""
    (x, y), (x_title, y_title), (x_text, y_text) = scales, titles, texts
    parts = []
    for tick in y.ticks():
        parts.append(element("line", x1=x.start_px, x2=x.end_px, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(element("text", y_text(tick), x=x.start_px - 7, y=y(tick) + 4, class_="tick", text_anchor="end"))
    for tick in x.ticks():
        parts.append(element("line", x1=x(tick), x2=x(tick), y1=y.start_px, y2=y.start_px + 4, class_="axis"))
        parts.append(element("text", x_text(tick), x=x(tick), y=y.start_px + 17, class_="tick", text_anchor="middle"))
    parts.append(element("line", x1=x.start_px, x2=x.end_px, y1=y.start_px, y2=y.start_px, class_="axis"))
    middle = (x.start_px + x.end_px) / 2
    parts.append(element("text", x_title, x=middle, y=y.start_px + 35, class_="label", text_anchor="middle"))
    turn = f"translate(12 {(y.start_px + y.end_px) / 2:.1f}) rotate(-90)"
    parts.append(element("text", y_title, transform=turn, class_="label", text_anchor="middle"))
    return join(parts)


def plain(value: float) -> str:
    """A tick's text: 0, 0.25, 1200."""
    return f"{value:.6g}"


def padded(values: Sequence[float], least: float, share: float = 0.08) -> tuple[float, float]:
    """A range with some air around the values, at least `least` wide."""
    low, high = min(values), max(values)
    air = max((high - low) * share, (least - (high - low)) / 2)
    return low - air, high + air
