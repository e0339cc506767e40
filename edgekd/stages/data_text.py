"""What was found in a data set, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekd.data.config import notices
from edgekd.report.data_tables import data_tables
from edgekd.terminal import cell, print_lines, print_table


def print_data(record: dict[str, Any]) -> None:
    """Print the content of `data/split.json`."""
    tables = data_tables(record)
    if tables is not None:
        _print_table("", tables.splits, tables.facts)
        _print_table("objects of class", tables.splits, tables.classes)
    names, channels = record["class_names"], record["channels"]
    print_lines([f"{len(names)} class{'es' * (len(names) != 1)}, {channels} channel{'s' * (channels != 1)}"])
    print_lines(f"warning: {sentence}" for sentence in notices(record))


def _print_table(title: str, splits: Sequence[str], rows: Sequence[tuple[str, Sequence[int | None]]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(title, box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for split in splits:
        table.add_column(cell(split), justify="right")
    for name, values in rows:
        table.add_row(cell(name), *("-" if value is None else f"{value:,}" for value in values))
    print_table(table)
