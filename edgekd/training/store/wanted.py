"""Which views a store is to hold, as far as recipes have asked for them. The index cannot say: it never changes, and a
recipe of more views may come later."""

from __future__ import annotations

import json
from collections.abc import Iterable

from edgekd.errors import InputError
from edgekd.plain import json_text
from edgekd.training.store.places import Place
from edgekd.training.views import View

FILE = "views.json"


def wanted(place: Place, files: Iterable[str]) -> set[View]:
    """Those that were asked for, and those of which there are files.

    Args:
        files: names of all that is there.

    Raises:
        InputError: the note of them is damaged.
    """
    return _noted(place) | {view for name in files if (view := view_of(name))}


def view_of(name: str) -> View | None:
    """That a file of the store is of; None of one that is of none."""
    folder, _, inside = name.partition("/")
    return View.named(folder) if inside else None


def want(place: Place, views: Iterable[View]) -> None:
    """Note views, before their first shard is written.

    Raises:
        EnvironmentFault: it cannot be written.
        InputError: the note is damaged.
    """
    before = _noted(place)
    if more := set(views) - before:
        names = sorted(view.name for view in before | more)
        place.write(FILE, json_text({"views": names}).encode())


def _noted(place: Place) -> set[View]:
    try:
        found = [View.named(name) for name in json.loads(place.read(FILE))["views"]]
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError):
        found = [None]
    if None in found:
        raise InputError(
            f"{place.name}/{FILE}: is damaged; delete it: views of which there are shards are found without"
        )
    return {view for view in found if view}
