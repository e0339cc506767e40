"""Typed errors. Each kind has the exit code that the command line promises; each problem is one line of text.

A line says where, what was given, what is allowed and how to mend it::

    recipes/x.yaml: distill[0].method: unknown method 'fdg' (known: cwd, fgd; did you mean 'fgd'?)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from edgekd.plain import MOST_LISTED, NAME_LIMIT, line, listed

_COMPARED = 2000  # names that a guess is taken from: its cost grows with them
_MORE = re.compile(r"and ([\d,]+) more; mend these first")


class EdgekdError(Exception):
    """Base of every error that edgekd raises on purpose.

    Args:
        problems: one line each, made neutral; all problems of one file are reported at once, of very many the first.
    """

    exit_code = 70

    def __init__(self, *problems: str) -> None:
        told = tuple(line(" ".join(str(problem).split())) for problem in problems[:MOST_LISTED])
        rest = sum(_count(str(problem)) for problem in problems[MOST_LISTED:])
        self.problems = (*told, f"and {rest:,} more; mend these first") if rest else told
        super().__init__("; ".join(self.problems))


class InputError(EdgekdError):
    """The recipe, the data, the model or the command line is wrong (exit code 2)."""

    exit_code = 2


class EnvironmentFault(EdgekdError):
    """The machine or the device failed: full disk, missing tool, unreachable, out of memory (exit code 4)."""

    exit_code = 4


class DivergedError(EdgekdError):
    """Training diverged: a loss or a metric is not finite (exit code 5)."""

    exit_code = 5


class Bug(EdgekdError):
    """What edgekd does itself can only be so by a fault of its own (exit code 70)."""


class Interrupted(EdgekdError):
    """Stopped by a signal, with everything saved (exit code 130)."""

    exit_code = 130


def _count(problem: str) -> int:
    """How many problems a line stands for: that of an error before may end a list."""
    found = _MORE.fullmatch(problem)
    return int(found[1].replace(",", "")) if found else 1


def unknown(kind: str, given: str, known: Iterable[str], meant: str | None = None, before: int = 0) -> str:
    """Text for a name that was missed: what was given, what is known, and the nearest guess.

    Args:
        meant: a better guess than the nearest name, where one is known.
        before: problems of the same file that are told first; behind very many nobody reads a guess, so none is made.
    """
    if before >= MOST_LISTED:
        return f"unknown {kind} '{line(given, NAME_LIMIT)}'"
    names = sorted(known)
    comparable = [name for name in names[:_COMPARED] if len(name) <= NAME_LIMIT]
    near = difflib.get_close_matches(given[:NAME_LIMIT], comparable, n=1)
    near = [meant] if meant in names else near
    guess = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} '{line(given, NAME_LIMIT)}' (known: {listed(names)}{guess})"
