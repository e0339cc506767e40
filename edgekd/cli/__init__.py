"""The command line. Parses, calls, prints, exits; heavy imports live inside the commands."""

from __future__ import annotations

from edgekd.cli import starting, road, shortlist, search, verdicts, evidence, lists  # isort: skip  (as in --help)
from edgekd.cli.app import app
from edgekd.cli.entry import main

__all__ = ["app", "evidence", "lists", "main", "road", "search", "shortlist", "starting", "verdicts"]
