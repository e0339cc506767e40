"""A recipe as YAML with a reason on each line."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgekd.plain import line as one_line
from edgekd.recipe.yaml_text import dump_in_a_line

_WIDTH = 118


@dataclass(frozen=True)
class Line:
    """A key with its value, or with lines of its own, and why it stands there.

    Attributes:
        key: empty for an entry of a list.
        value: on one line; a tuple of lines stands below the key, indented.
    """

    key: str
    value: Any
    why: str = ""


def written(head: Sequence[str], lines: Sequence[Line]) -> str:
    """The file's text: a comment at the top, then the lines."""
    top = [f"# {one_line(text)}".rstrip() for text in head]
    return "\n".join([*top, *_laid_out(lines, 0)]) + "\n"


def content_of(lines: Sequence[Line]) -> Any:
    """What the lines say, as the YAML reader finds it."""
    if all(not one.key for one in lines) and lines:
        return [one.value for one in lines]
    return {one.key: content_of(one.value) if isinstance(one.value, tuple) else one.value for one in lines}


def _laid_out(lines: Sequence[Line], indent: int) -> Iterator[str]:
    space = "  " * indent
    for one in lines:
        below = isinstance(one.value, tuple)
        start = f"{one.key}:" if one.key else "-"
        text = space + (start if below else f"{start} {dump_in_a_line(one.value)}")
        why = one_line(one.why)
        if why and len(text) + len(why) + 3 <= _WIDTH:
            yield f"{text} # {why}"
        else:
            yield from (f"{space}# {part}" for part in textwrap.wrap(why, _WIDTH - len(space) - 2))
            yield text
        if below:
            yield from _laid_out(one.value, indent + 1)
