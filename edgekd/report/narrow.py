"""Tables that a narrow screen can show: each cell says its column, and keeps its part in a table.

The style sheet sets rows below one another there, a cell a line. A cell's column is in its `data-label`; that it is a
table is said to screen readers by roles, since one that is laid out otherwise is none to some of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_HEAD = re.compile(r"<thead>.*?</thead>", re.DOTALL)
_ROW = re.compile(r"<tr[^>]*>.*?</tr>", re.DOTALL)
_HEAD_CELL = re.compile(r"<th([^>]*)>(.*?)</th>", re.DOTALL)
_CELL = re.compile(r'<td(?=[ >])|<th(?= scope="row")')
_ROLES = (("<table>", "table"), ("<tbody>", "rowgroup"), ("<thead>", "rowgroup"), ("<tr", "row"))


def with_labels(page: str) -> str:
    """The page with every table's cells labelled. It has to be well-formed and escaped, as our templates make it."""
    return _TABLE.sub(lambda found: _labelled(found[0]), page)


def _labelled(table: str) -> str:
    head = _HEAD.search(table)
    names = columns(head[0]) if head else []
    start = head.end() if head else 0
    body = _ROW.sub(lambda row: _with_names(row[0], names), table[start:])
    whole = table[:start] + body
    for tag, role in _ROLES:
        bare = tag.rstrip(">")
        whole = re.sub(rf"{bare}(?=[ >])", f'{bare} role="{role}"', whole)
    return re.sub(r"<th(?= [^>]*scope=\"col)", '<th role="columnheader"', whole)


def columns(head: str) -> list[str]:
    """Name of each column, as HTML text: of two header rows, those of both."""
    rows = [_HEAD_CELL.findall(row) for row in _ROW.findall(head)]
    if not rows:
        return []
    groups = [(_text(content), _count(given, "colspan"), _count(given, "rowspan")) for given, content in rows[0]]
    below: Iterator[str] = iter([_text(content) for _, content in rows[1]] if len(rows) > 1 else [])
    names = []
    for name, wide, high in groups:
        if high > 1 or len(rows) == 1:
            names += [name] * wide
        else:
            names += [f"{name}, {next(below, '')}" for _ in range(wide)]
    return names


def _with_names(row: str, names: list[str]) -> str:
    left = iter(names)

    def named(found: re.Match[str]) -> str:
        name = next(left, "")
        if found[0] == "<th":
            return '<th role="rowheader"'
        return f'<td role="cell" data-label="{name}"' if name else '<td role="cell"'

    return _CELL.sub(named, row)


def _text(content: str) -> str:
    """Of a header, without its markup; what was escaped stays so, quotes as well."""
    return " ".join(re.sub(r"<[^>]+>", " ", content).split()).replace('"', "&#34;")


def _count(attributes: str, key: str) -> int:
    found = re.search(rf'{key}="(\d+)"', attributes)
    return int(found[1]) if found else 1
