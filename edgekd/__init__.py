"""edgekd: distil a big detector into a small one, export it, and prove it on the device.

`import edgekd` costs next to nothing: whatever is named here is imported when it is first used (`edgekd.api`).
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekd.api import (
        Artifact,
        Checked,
        Detections,
        Event,
        Predictor,
        Recipe,
        Run,
        Searched,
        Shortlisted,
        Verdict,
        check,
        compare,
        distill,
        export,
        gate,
        init,
        load,
        prepare,
        profile,
        report,
        run,
        search,
        shortlist,
        validate,
    )  # fmt: skip
    from edgekd.errors import DivergedError, EdgekdError, EnvironmentFault, InputError, Interrupted

__version__ = "0.1.0"

_ERRORS = ("DivergedError", "EdgekdError", "EnvironmentFault", "InputError", "Interrupted")
_API = (
    "Artifact", "Checked", "Detections", "Event", "Predictor", "Recipe", "Run", "Searched", "Shortlisted", "Verdict",
    "check", "compare", "distill", "export", "gate", "init", "load", "prepare", "profile", "report", "run", "search",
    "shortlist", "validate",
)  # fmt: skip
_ALSO_ROOMS = ("distill", "export", "gate", "report", "search")  # packages of these names are called like the functions

__all__ = [
    "Artifact", "Checked", "Detections", "DivergedError", "EdgekdError", "EnvironmentFault", "Event", "InputError",
    "Interrupted", "Predictor", "Recipe", "Run", "Searched", "Shortlisted", "Verdict", "__version__", "check",
    "compare", "distill", "export", "gate", "init", "load", "prepare", "profile", "report", "run", "search",
    "shortlist", "validate",
]  # fmt: skip


class _Room(ModuleType):
    """A package that a function of the interface shares its name with: both `edgekd.export(run)` and
    `edgekd.export.targets` are meant."""

    def __call__(self, *given: Any, **options: Any) -> Any:
        """The function of this name."""
        return getattr(import_module("edgekd.api"), self.__name__.rpartition(".")[2])(*given, **options)


class _Face(ModuleType):
    """edgekd itself: importing one of its packages binds the package here, and it is made callable then."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _ALSO_ROOMS and type(value) is ModuleType:
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face


def __getattr__(name: str) -> Any:
    if name in _ALSO_ROOMS:
        return import_module(f"{__name__}.{name}")
    if name in _API or name in _ERRORS:
        return getattr(import_module(f"{__name__}.{'errors' if name in _ERRORS else 'api'}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
