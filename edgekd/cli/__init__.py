"""The command line. Parses, calls, prints, exits; heavy imports live inside the commands."""

from __future__ import annotations

from edgekd.cli import road, shortlist, verdicts, lists  # isort: skip  (registers the commands, in the order of --help)
from edgekd.cli.app import app
from edgekd.cli.entry import main

__all__ = ["app", "lists", "main", "road", "shortlist", "verdicts"]
