"""Errors of the interface: those of edgekd, with the messages of the command line, whoever raised them first."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from edgekd.agent.protocol import AgentError
from edgekd.blame import blame
from edgekd.errors import EdgekdError, EnvironmentFault, InputError

Given = ParamSpec("Given")
Result = TypeVar("Result")


def typed_errors(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """A function that raises an `EdgekdError` where the command line would end with a line of its own."""

    @functools.wraps(function)
    def wrapped(*given: Given.args, **options: Given.kwargs) -> Result:
        try:
            return function(*given, **options)
        except EdgekdError:
            raise
        except AgentError as error:
            kind = EnvironmentFault if error.kind == "runtime" else InputError
            raise kind(error.message) from error
        except Exception as error:
            blamed = blame(error)
            if blamed is None:
                raise
            raise blamed from error

    return wrapped
