"""What other packages add to edgekd, by entry points.

A package registers a method, or a family of detectors, by naming the module that registers it, in its pyproject.toml:

    [project.entry-points."edgekd.methods"]
    mine = "my_package.my_method"

    [project.entry-points."edgekd.families"]
    mine = "my_package.my_family"

It is loaded when methods, or families, are first asked for, never for `edgekd --help`. One that cannot be loaded is a
warning: what it adds is then unknown, and everything else works.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from edgekd.progress import say

Group = Literal["edgekd.methods", "edgekd.families"]


@cache
def load(group: Group) -> None:
    """Import what installed packages name in a group, once a process."""
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        try:
            entry.load()
        except (Exception, SystemExit) as error:  # whatever a package does when it is imported
            say(f"warning: plugin '{entry.name}' of package {_package(entry)} is left out: {_reason(error)}")


def package_of(member: type) -> str:
    """The package that a class comes from."""
    return member.__module__.partition(".")[0]


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
