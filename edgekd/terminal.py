"""Results on standard output, for people: lines and tables in which text of others does nothing but show."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from edgekd import plain
from edgekd.errors import EnvironmentFault


def put(text: str) -> None:
    """Print text that is neutral already.

    Raises:
        EnvironmentFault: standard output cannot be written: its disk is full, or its reader went away.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        raise _untold(error) from error


def print_lines(lines: Iterable[object]) -> None:
    """Each on one line."""
    for line in lines:
        put(plain.line(line))


def cell(content: object) -> Any:
    """Text of a table of rich, in which nothing is markup."""
    from rich.text import Text

    return Text(plain.visible(content))


def print_table(table: Any) -> None:
    """Print a table of rich. Its lines are looked at once they are laid out: a cell that is folded begins new ones."""
    from rich.console import Console

    console = Console()
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        put(plain.without_command(line))


def _untold(error: OSError) -> EnvironmentFault:
    why = "its reader went away" if error.errno == errno.EPIPE else error.strerror
    return EnvironmentFault(f"standard output: cannot be written ({why}); the result was not told")
