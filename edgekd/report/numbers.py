"""How figures are written: AP with three decimals, times with three significant digits, absence as a dash."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

DASH = "\u2014"
MINUS = "\u2212"
ROLE_NAMES = {"teacher": "Teacher", "control": "Control", "student": "Student"}


def ap(value: float | None) -> str:
    """0.4821 -> 0.482."""
    return DASH if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """0.0234 -> +0.023, with a true minus sign; a zero has no sign."""
    if value is None:
        return DASH
    text = f"{abs(value):.3f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else MINUS}{text}"


def gain_words(gain: Mapping[str, Any]) -> str:
    """A gain over seeds: +0.042 [+0.010, +0.074] AP over 3 seeds."""
    count = len(gain["differences"])
    if gain["low"] is None:
        return f"{signed(gain['mean'])} AP of one seed, which has no interval"
    return f"{signed(gain['mean'])} [{signed(gain['low'])}, {signed(gain['high'])}] AP over {count} seeds"


def inherited_words(taken: Mapping[str, Any]) -> str:
    """What control and student started from."""
    sections = " and ".join(taken["sections"])
    return f"Control and student began with the teacher's {sections}: {percent(taken['share'])} of their weights."


def digits(value: float | None, significant: int = 3) -> str:
    """A number with so many significant digits, never in exponent form for everyday sizes: 0.123, 1.23, 12.3, 1234."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{significant - 1}e}"
    magnitude = math.floor(math.log10(float(f"{abs(value):.{significant - 1}e}")))
    text = f"{abs(value):.{max(significant - 1 - magnitude, 0)}f}"
    return text if value > 0 else MINUS + text


def percent(share: float | None) -> str:
    """0.0425 -> 4.2 %."""
    return DASH if share is None else f"{digits(100 * share, 2)} %"


def megabytes(size_bytes: int | None) -> str:
    """5_210_000 -> 5.21 MB."""
    return DASH if size_bytes is None else f"{digits(size_bytes / 1e6)} MB"


def count(value: float | None) -> str:
    """2_591_010 -> 2.59 M, 812_345 -> 812 k; small counts in full."""
    if value is None:
        return DASH
    if value < 10_000:
        return f"{value:g}"
    return f"{digits(value / 1e6)} M" if value >= 999_500 else f"{digits(value / 1e3)} k"


def seconds(value: float | None) -> str:
    """Seconds as people say them: 41 s, 7 min 40 s, 2 h 5 min."""
    if value is None:
        return DASH
    if value < 60:
        return f"{digits(value, 2)} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def of_metric(metric: str, value: Any) -> str:
    """A budget or its measurement, by the name of the metric: times in ms, rates as such, all else an AP."""
    if not isinstance(value, (int, float)):
        return DASH
    if metric.endswith("_per_second"):
        return f"{digits(value)} /s"
    return f"{digits(value)} ms" if metric.endswith("_ms") else ap(value)


def flat(content: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested JSON as (dotted key, text), lists of plain values joined; for the environment and the like."""
    if isinstance(content, dict) and content:
        inside = f"{prefix}." if prefix else ""
        return [pair for key, value in content.items() for pair in flat(value, f"{inside}{key}")]
    if isinstance(content, list) and any(isinstance(item, (dict, list)) for item in content):
        return [pair for index, value in enumerate(content) for pair in flat(value, f"{prefix}[{index}]")]
    if isinstance(content, list):
        return [(prefix, ", ".join(str(item) for item in content) or DASH)]
    return [(prefix, DASH if content in (None, {}) else str(content))]
