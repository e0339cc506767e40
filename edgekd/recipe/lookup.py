"""Finds what users write (recipes, export targets, devices, presets): by path, in the current folder, built in, or in
another package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import edgekd
from edgekd import plugins
from edgekd.errors import InputError, unknown
from edgekd.files import path_fault
from edgekd.plain import cut, listed
from edgekd.recipe import instead

Kind = Literal["recipes", "export", "devices", "presets"]

_NOUNS: dict[Kind, str] = {"recipes": "recipe", "export": "export target", "devices": "device", "presets": "preset"}
SUFFIXES = (".yaml", ".yml")


def find(kind: Kind, name: str, search: Sequence[Path] = ()) -> Path:
    """The file of a recipe, target, device or preset.

    Args:
        kind: the folder it is kept in.
        name: a path to a YAML file, or a name such as `quickstart` (`sub/name` for one in a subfolder).
        search: folders to look in before `./<kind>` and the built-in ones.

    Raises:
        InputError: there is no such file; says which names are known.
    """
    if fault := path_fault(name):
        raise InputError(f"{_NOUNS[kind]} {cut(name)}: {fault}; correct the path")
    path = Path(name)
    if path.suffix in SUFFIXES and path.exists() and not path.is_dir():
        return path  # whoever reads it says what is wrong with a device or a pipe
    known = available(kind, search)
    if name in known:
        return known[name]
    if path.suffix in SUFFIXES:
        bare = path.with_suffix("").name
        hint = f"; did you mean '{bare}'?" if bare in known else ""
        raise InputError(f"{name}: no such {_NOUNS[kind]} file; give a path or one of: {_listed(known)}{hint}")
    if kind == "recipes" and (what := instead.of_no_recipe(path)):
        raise InputError(f"{name}: {what}")
    meant = instead.MEANT.get(kind, {}).get(name)
    what = f"{name}: is a folder" if path.is_dir() else unknown(_NOUNS[kind], name, known, meant)
    raise InputError(f"{what}; give {'one of these' if not path.is_dir() else 'a name'} or the path of a YAML file")


def available(kind: Kind, search: Sequence[Path] = ()) -> dict[str, Path]:
    """Name -> file of everything of a kind that `find` finds by name; the first folder that has a name wins."""
    found: dict[str, Path] = {}
    for folder in (*search, Path(kind), *_built_in(kind), *plugins.folders(kind)):
        for path in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()):
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return found


def _built_in(kind: Kind) -> Iterator[Path]:
    """The folder inside the package, and that of a source tree from which edgekd is used in place."""
    package = Path(edgekd.__file__).parent
    yield package / "builtin" / kind
    if (package.parent / "pyproject.toml").is_file():
        yield package.parent / kind


def _listed(known: dict[str, Path]) -> str:
    return listed(sorted(known))
