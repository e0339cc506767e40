"""What other packages add to edgekd, by entry points.

A package registers a method, or a family of detectors, by naming the module that registers it, in its pyproject.toml:

    [project.entry-points."edgekd.methods"]
    mine = "my_package.my_method"

    [project.entry-points."edgekd.families"]
    mine = "my_package.my_family"

Targets and devices are YAML files: a package names the module beside whose file they lie, in a folder `export` or
`devices`. A module of targets may also register steps that they are made by (`edgekd.export.contract.register`).

    [project.entry-points."edgekd.targets"]
    mine = "my_package"            # my_package/export/*.yaml

    [project.entry-points."edgekd.devices"]
    mine = "my_package"            # my_package/devices/*.yaml

A transport is registered by the module that is named, as a method is (`edgekd.devices.transports.register`).

    [project.entry-points."edgekd.transports"]
    mine = "my_package.my_transport"

All are loaded when such a thing is first asked for, never for `edgekd --help`. One that cannot be loaded is a warning:
what it adds is then unknown, and everything else works.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Literal

from edgekd.progress import say

Group = Literal["edgekd.methods", "edgekd.families", "edgekd.targets", "edgekd.devices", "edgekd.transports"]
_GROUPS: dict[str, Group] = {"export": "edgekd.targets", "devices": "edgekd.devices"}


@cache
def load(group: Group) -> tuple[object, ...]:
    """Import what installed packages name in a group, once a process; returns it."""
    loaded = []
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        try:
            loaded.append(entry.load())
        except (Exception, SystemExit) as error:  # whatever a package does when it is imported
            left_out(f"plugin '{entry.name}' of package {_package(entry)}", error)
    return tuple(loaded)


def left_out(what: str, error: BaseException) -> None:
    """Warn, once a process, that something of another package does not work, and that edgekd goes on without it."""
    _say_once(f"warning: {what} is left out: {_reason(error)}")


def folders(kind: str) -> list[Path]:
    """Folders of other packages in which YAML files of a kind lie: `export`, `devices`; none of another kind."""
    group = _GROUPS.get(kind)
    modules = [module for module in load(group) if isinstance(module, ModuleType) and module.__file__] if group else []
    return [folder for module in modules if (folder := Path(str(module.__file__)).parent / kind).is_dir()]


def package_of(member: type) -> str:
    """The package that a class comes from."""
    return member.__module__.partition(".")[0]


def is_foreign(member: type) -> bool:
    """Whether a class is of another package than edgekd."""
    return package_of(member) != __name__.partition(".")[0]


@cache
def _say_once(text: str) -> None:
    say(text)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
