"""A search that was done, shown, and made into a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.atomic import as_written, read_json, write_text
from edgekd.errors import InputError
from edgekd.plain import word
from edgekd.recipe.paths import moved
from edgekd.recipe.yaml_text import dump, read_mapping
from edgekd.run_dir import LOCKED_RECIPE, SEARCH
from edgekd.run_dir.manifest import MANIFEST
from edgekd.search.distillers.results import PAGE, REPORT
from edgekd.stages.binding import bind_recipe


def read(folder: Path) -> dict[str, Any]:
    """The content of `report.json`.

    Raises:
        InputError: no search, or one that has not come to its end.
    """
    if not (folder / REPORT).is_file() or not (folder / SEARCH).is_file():
        raise InputError(f"{folder}: no finished search; make one with 'edgekd search RECIPE --out {word(folder)}'")
    with as_written(folder / REPORT):
        found: dict[str, Any] = read_json(folder / REPORT)
        rows(found), lines(found, folder)  # whoever edited it shall hear of it here
    return found


def lines(report: Mapping[str, Any], folder: Path) -> list[str]:
    """For people."""
    best, control, noise = report["best"], report["control"], report["noise"]["deviation"]
    told = [f"{report['recipe']}: {len(report['trials'])} trials, {report['steps']:,} steps; {report['ended']}"]
    if best is None:
        return [*told, "no trial came to its end; see the table", f"report: {folder / PAGE}"]
    if control is not None:
        told.append(f"control: AP {control:.3f} on the images held out of train")
    gain = f", {best['gain']:+.3f} over the control" if best.get("gain") is not None else ""
    told.append(f"best: trial {best['number']} (AP {best['score']:.3f}){gain}: {best['candidate']}")
    if noise is not None:
        told.append(f"noise of a difference: {noise:.4f} AP; {len(report['tied'])} more candidates within it")
    told += _finals(report.get("finals"))
    told.append("the proxy chooses; only a training at full length, with seeds, shows a gain: edgekd search apply")
    return [*told, f"report: {folder / PAGE}"]


def _finals(finals: Mapping[str, Any] | None) -> list[str]:
    if not finals:
        return []
    told = ", ".join(f"trial {one['number']} {_gain(one)}" for one in finals["finalists"])
    seeds = ", ".join(map(str, finals["seeds"]))
    return [f"finals, AP over the control with other seeds ({seeds}): {told}"]


def _gain(finalist: Mapping[str, Any]) -> str:
    if finalist["gain"] is None:
        return "did not end with each"
    interval = "" if finalist["low"] is None else f" [{finalist['low']:+.3f}, {finalist['high']:+.3f}]"
    return f"{finalist['gain']:+.3f}{interval}"


def rows(report: Mapping[str, Any], most: int = 10) -> list[dict[str, Any]]:
    """The best trials, for a table."""
    complete = [one for one in report["trials"] if one["score"] is not None]
    best = sorted(complete, key=lambda one: (-one["score"], one["number"]))[:most]
    return [{"trial": one["number"], "AP": one["score"], "candidate": one["candidate"]} for one in best]


def apply(folder: Path, out: Path) -> dict[str, Any]:
    """Write the searched recipe with the best candidate as its `distill`; nothing is overwritten.

    Returns:
        `file` and `distill`.

    Raises:
        InputError: no finished search, no trial that came to its end, what it found is no recipe, or the file exists.
    """
    report = read(folder)
    if report["best"] is None:
        raise InputError(f"{folder}: no trial came to its end, so there is nothing to apply")
    if out.exists():
        raise InputError(f"--out {out}: exists; choose another file, or remove it first")
    base = Path(read_json(folder / MANIFEST)["base"])
    content = read_mapping(folder / LOCKED_RECIPE)
    content |= {"name": f"{content['name']}-searched", "distill": report["best"]["distill"]}
    content.pop("search", None)
    for place, value in moved(content, base, out.parent):
        inner = content
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = value
    bind_recipe(out, (), out.parent, content)  # checked before it is written
    write_text(
        out, f"# What edgekd search found for {report['recipe']}: {report['best']['candidate']}.\n{dump(content)}"
    )
    return {"file": str(out), "distill": report["best"]["distill"]}
