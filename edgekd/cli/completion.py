"""What a shell completes: names of recipes, devices, targets and methods.

It answers while one types, so little is imported; only methods need torch to be known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekd.recipe.lookup import Kind


def recipes(incomplete: str) -> list[str]:
    """Recipes by name; files are the shell's own."""
    return _of_kind("recipes", incomplete)


def devices(incomplete: str) -> list[str]:
    """Devices by name."""
    return _of_kind("devices", incomplete)


def targets(incomplete: str) -> list[str]:
    """Export targets by name."""
    return _of_kind("export", incomplete)


def methods(incomplete: str) -> list[str]:
    """Distillation methods, and presets."""
    from edgekd.distill.contract import distiller_names
    from edgekd.recipe.presets import preset_files

    return _beginning((*distiller_names(), *preset_files()), incomplete)


def _of_kind(kind: Kind, incomplete: str) -> list[str]:
    from edgekd.recipe.lookup import available

    return _beginning(available(kind), incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
