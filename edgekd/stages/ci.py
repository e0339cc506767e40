"""Hands a verdict to a CI system, in the forms that were asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.atomic import write_text
from edgekd.gate import ci_output
from edgekd.gate.verdict import Check, Verdict


def hand_out(verdict: Verdict, title: str, *, junit: Path | None, markdown: Path | None, github: bool) -> None:
    """Write the files, and print the annotations: GitHub reads them from either stream, results have the other."""
    if junit:
        write_text(junit, ci_output.junit(verdict, title))
    if markdown:
        write_text(markdown, ci_output.markdown(verdict, title))
    if github:
        sys.stderr.write(ci_output.github(verdict, title))


def verdict_of(content: Mapping[str, Any]) -> Verdict:
    """The verdict of a `verdict.json`."""
    checks = tuple(Check(**check) for check in content["checks"])
    return Verdict(content["status"], tuple(content["reasons"]), checks)
