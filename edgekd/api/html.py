"""Tables and pictures for notebooks. Text of others is escaped; nothing is fetched, nothing is run."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edgekd.plain import visible
from edgekd.types import ByteArray


def text(value: Any) -> str:
    """A value as a person reads it, safe inside HTML."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return escape(visible(shown))


def text_lines(given: str) -> str:
    """Text of several lines, safe inside HTML."""
    return escape(visible(given, keep="\n"))


def table(rows: Sequence[Mapping[str, Any]], title: str = "") -> str:
    """Rows that have the same keys, numbers to the right."""
    if not rows:
        return ""
    head = "".join(f"<th>{text(key)}</th>" for key in rows[0])
    body = "".join(f"<tr>{''.join(_cell(value) for value in row.values())}</tr>" for row in rows)
    caption = f"<caption>{text(title)}</caption>" if title else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f'<td style="text-align:{"right" if number else "left"}">{text(value)}</td>'


def picture(image: ByteArray, largest_px: int = 640) -> str:
    """An (h, w, 1 or 3) uint8 image, as a JPEG inside the page."""
    from PIL import Image

    shown = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image[..., :3])
    shown.thumbnail((largest_px, largest_px))
    stream = io.BytesIO()
    shown.save(stream, "JPEG", quality=90)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode("ascii")}">'
