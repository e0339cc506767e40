"""Typed errors. Each kind has the exit code that the command line promises; each problem is one line of text.

A line says where, what was given, what is allowed and how to mend it::

    recipes/x.yaml: distill[0].method: unknown method 'fdg' (known: cwd, fgd; did you mean 'fgd'?)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgekdError(Exception):
    """Base of every error that edgekd raises on purpose.

    Args:
        problems: one line each; all problems of one file are reported at once.
    """

    exit_code = 70

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(" ".join(str(problem).split()) for problem in problems)
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


class Interrupted(EdgekdError):
    """Stopped by a signal, with everything saved (exit code 130)."""

    exit_code = 130


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """Text for a name that was missed: what was given, what is known, and the nearest guess."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1)
    guess = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} '{given}' (known: {', '.join(names) or 'none'}{guess})"
