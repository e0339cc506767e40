"""Entry point: exit codes and one-line errors as the README promises."""

from __future__ import annotations

import re
import sys
import traceback
from typing import Any, NoReturn

import typer

from edgekd import ranks
from edgekd.blame import blame
from edgekd.cli import streams
from edgekd.cli.app import app
from edgekd.errors import EdgekdError
from edgekd.interrupts import EXIT_CODE, Interrupts
from edgekd.openmp import bound_waiting
from edgekd.plain import line

_HELP = "see 'edgekd --help'"


def main(arguments: list[str] | None = None, interrupts: Interrupts | None = None) -> NoReturn:
    """Run a command; exit codes and one-line errors as the README promises.

    Args:
        interrupts: those of the whole process; None heeds signals while the command runs.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    bound_waiting()
    if interrupts is not None:
        _main(arguments, interrupts)
    with Interrupts() as own:
        _main(arguments, own)


def _main(arguments: list[str], interrupts: Interrupts) -> NoReturn:
    try:
        streams.prepare()
        obj = {"arguments": arguments}
        code = app(arguments, standalone_mode=False, obj=obj)  # what `typer.Exit` was given; 130 after Ctrl-C
        code = code if code == EXIT_CODE else ranks.leave(int(code or 0))
    except SystemExit as stop:  # the work was done elsewhere, or nobody reads the help any more
        ranks.end_others(1 if stop.code else 0)
        raise
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_CODE
    except Exception as error:
        if (
            isinstance(error, EdgekdError)
            and error.exit_code != 70
            and (error.exit_code == EXIT_CODE or interrupts.came is None)
        ):
            fail(error.problems, error.exit_code, arguments)
        if interrupts.came is None:
            _unexpected(error, arguments)
        code = EXIT_CODE
    interrupts.settle()
    if code == EXIT_CODE:
        fail((interrupts.line,), code, arguments)
    sys.exit(code)


def _unexpected(error: Exception, arguments: list[str]) -> NoReturn:
    """Usage errors of the command line parser, faults of the machine, processes that went away, and bugs."""
    if hasattr(error, "format_message"):  # the parser's usage errors, whichever click made them
        fail(_usage_problem(error), 2, arguments)
    if blamed := blame(error):
        fail(blamed.problems, blamed.exit_code, arguments)
    if ranks.is_loss(error):
        fail(("another process ended without a word (killed?); the same command goes on",), 4, arguments)
    _show_traceback(arguments)
    kind = "" if isinstance(error, EdgekdError) else f"{type(error).__name__}: "
    _end((f"edgekd: bug: {kind}{_said(error)}; please report it with the output of --debug",), 70)


def _usage_problem(error: Any) -> tuple[str, ...]:
    """What the command line parser says, and what to do; nothing where it has shown the help instead."""
    from edgekd.cli.habits import advice

    message, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    group: Any = context.command if context else None
    names = group.list_commands(context) if hasattr(group, "list_commands") else ()
    better = advice(message, (context.info_name if context else "") or "", names)
    if better:  # than the parser's own guess
        message = re.sub(r"( \(Possible options:.*\)|\. Did you mean .*)$", "", message)
    return (f"{message}; {better or _HELP}",) if message else ()


def fail(problems: tuple[str, ...], code: int, arguments: list[str]) -> NoReturn:
    """End with an exit code and a line per problem."""
    _show_traceback(arguments)
    _end(tuple(f"edgekd: error: {problem}" for problem in problems), code)


def _end(lines: tuple[str, ...], code: int) -> NoReturn:
    """Of processes that train together, the first one to fail says why, and ends all."""
    streams.abandon_what_is_stuck()
    if ranks.is_first_to_fail():
        print(*map(line, lines), sep="\n", end="\n" if lines else "", file=sys.stderr, flush=True)
        ranks.end_others(code)
    sys.exit(code)


def _show_traceback(arguments: list[str]) -> None:
    if "--debug" in arguments and sys.exc_info()[0]:
        print(*map(line, traceback.format_exc().splitlines()), sep="\n", file=sys.stderr)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())
