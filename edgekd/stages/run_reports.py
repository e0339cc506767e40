"""Reports of several runs at once, and a report in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekd.atomic import as_written, write_text
from edgekd.progress import say
from edgekd.report import side_by_side


def write_side_by_side(runs: Sequence[Path], file: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write the page; returns what each run measured, and a table for people.

    Raises:
        InputError: one is no run directory, or `file` is no place for a file.
    """
    with as_written(runs[0]):
        reports = side_by_side.collected(runs)
        page = side_by_side.page(reports)
    write_text(file, page)
    return reports, side_by_side.table(reports)


def open_in_browser(file: Path) -> None:
    """Show a file; says where it is if there is no browser."""
    import webbrowser

    if not webbrowser.open(file.resolve().as_uri()):
        say(f"no browser could be started; open {file.resolve()}")
