"""The tables of docs/evidence.md, drawn from the files beside it: `python -m edgekd.evidence.page` writes them."""

from __future__ import annotations

import sys
from pathlib import Path

from edgekd.atomic import write_text
from edgekd.evidence import kept, sources
from edgekd.evidence.document import Document, Entry
from edgekd.files import read_text
from edgekd.plain import markdown

BEGIN, END = "<!-- drawn from docs/evidence/*.json -->", "<!-- end of what is drawn -->"
_CHANGED = "changed since"
_NOTHING = "No file yet: nothing was executed on such hardware."


def drawn(documents: dict[str, Document]) -> str:
    """A section for each file: what was shown, whether its code is still that, and how every experiment ended."""
    return "\n\n".join(_section(name, found) for name, found in documents.items()) or _NOTHING


def with_tables(page: str, documents: dict[str, Document]) -> str:
    """The page with its tables drawn anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{drawn(documents)}\n\n{END}{after}"


def _section(name: str, found: Document) -> str:
    there = found.environment
    gpus = f", {len(there['gpus'])} GPU" if there.get("gpus") else ""
    about = (
        f"[{name}](evidence/{name}), edgekd {found.edgekd}; {there.get('system')} {there.get('machine')}, "
        f"{there.get('cores')} cores{gpus}, Python {there.get('python')}"
    )
    rows = [
        f"| {markdown(shown.row)} | {markdown(', '.join(shown.where))} | "
        f"{markdown(', '.join(f'{package} {version}' for package, version in shown.by.items()))} | {entry.date} | "
        f"{_CHANGED if sources.changed(shown.sources) else 'the same'} |"
        for entry in found.entries
        for shown in entry.shows
    ]
    ends = [
        f"| {markdown(entry.experiment)} | {_status(entry)} | {_seconds(entry)} | {markdown(entry.reason or '')} |"
        for entry in found.entries
        if entry.status != "lacking"
    ]
    return "\n".join([
        f"### {markdown(found.machine)}", "", about, "",
        "| executed | where | by | date | its code |", "| --- | --- | --- | --- | --- |", *rows, "",
        "| experiment | status | s | reason |", "| --- | --- | --- | --- |", *ends,
    ])  # fmt: skip


def _status(entry: Entry) -> str:
    return f"{entry.status}, {_CHANGED}" if sources.changed(entry.sources) else entry.status


def _seconds(entry: Entry) -> str:
    return "" if entry.seconds is None else f"{entry.seconds:.0f}"


def main() -> None:
    """Write docs/evidence.md of this source tree again."""
    folder = kept.folder()
    if folder is None or folder.parent.name != "docs":
        sys.exit("edgekd.evidence.page: is for a source tree, with docs/evidence")
    path = Path(folder.parent / "evidence.md")
    write_text(path, with_tables(read_text(path), kept.documents(folder)))


if __name__ == "__main__":
    main()
