"""The search for a distiller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli.app import Fresh, Json, Set, app, print_json, print_rows, recipe_file
from edgekd.errors import InputError
from edgekd.terminal import print_lines

_USES = "edgekd search RECIPE --out S, edgekd search show S, or edgekd search apply S --out recipe.yaml"


@app.command()
def search(
    what: Annotated[
        list[str], typer.Argument(metavar="RECIPE | show S | apply S", help="what to search for", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option("--out", help="folder of the search; with apply, the recipe")] = None,
    set_: Set = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Search the distiller that teaches the recipe's pair best; show a search, or write the recipe that it found."""
    from edgekd.search.distillers import show

    verb, place = (what[0], Path(what[1])) if len(what) == 2 else ("", Path(what[0]))
    if len(what) > 2 or (len(what) == 2 and verb not in ("show", "apply")) or (what[0] == "show" and len(what) < 2):
        raise InputError(f"search: got {' '.join(what)}; write {_USES}")
    if (out is None) != (verb == "show"):
        raise InputError(f"search: --out {'is not for show' if out else 'is missing'}; write {_USES}")
    if verb and (set_ or fresh):
        raise InputError(f"search {verb}: --set and --fresh are for a search itself; write {_USES}")
    if verb == "apply":
        assert out is not None
        written = show.apply(place, out)
        nothing = [] if written["distill"] else ["note: the control was best: the recipe distils nothing"]
        print_json(written) if as_json else print_lines([f"recipe: {written['file']}", *nothing])
        return
    if verb == "":
        from edgekd.search.distillers.search import search as run

        assert out is not None
        run(recipe_file(place), out, tuple(set_ or ()), fresh=fresh)
        place = out
    report = show.read(place)
    if as_json:
        print_json(report)
        return
    if table := show.rows(report):
        print_rows(table, as_json=False)
    print_lines(show.lines(report, place))
