"""A shortlist for people and for programs: rows, lines, the content of its JSON file and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekd.atomic import write_json, write_text
from edgekd.report.numbers import DASH, digits
from edgekd.report.shortlist import page
from edgekd.search.latency_fit import Prediction
from edgekd.search.published import sources
from edgekd.search.shortlist import Shortlist
from edgekd.search.students import Candidate
from edgekd.search.verdicts import BUDGETS, dominated_by, excess, nearest, surpassed_by

_UNITS = {"max_p90_ms": "ms", "max_memory_mb": "MB", "max_size_mb": "MB", "max_energy_mj": "mJ"}


def content(found: Shortlist) -> dict[str, Any]:
    """What `<device>.json` holds; figures are measured, but for those under `predicted`."""
    budgets, predictions = found.budgets, found.predictions()
    results = {one.name: found.result(one) for one in found.candidates}
    entries = [
        _entry(found, one, budgets[one.name], predictions.get(one.name), dominated_by(one, results, found.candidates))
        for one in found.candidates
    ]
    entries.sort(key=_order)
    fitting = [one for one in entries if one["fits"] is not False and one["status"] == "measured"]
    closest = nearest(found.candidates, results, budgets) if not fitting else None
    return {
        "schema": "edgekd.shortlist/1",
        "recipe": found.bound.recipe.name,
        "device": found.device.name,
        "protocol": found.bound.recipe.search.students.protocol,
        "exit_code": found.exit_code,
        "undecided": [one.name for one in found.undecided],
        "front": [one["name"] for one in fitting if one["dominated_by"] is None],
        "best": [one["name"] for one in fitting if one["dominated_by"] is None and one["surpassed_by"] is None],
        "nearest": None if closest is None else {"name": closest[0].name, "budget": closest[1], "times": closest[2]},
        "candidates": entries,
        "coco_ap_sources": [{"source": title, "url": url} for title, url in sources()],
    }


def write(found: Shortlist) -> tuple[dict[str, Any], Path]:
    """Write `<device>.json` and `<device>.html` into the shortlist's folder; returns the content and the page."""
    told = content(found)
    write_json(found.folder / f"{found.device.name}.json", told)
    write_text(found.folder / f"{found.device.name}.html", page(told))
    return told, found.folder / f"{found.device.name}.html"


def rows(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A table for people of what was measured, the fastest first."""
    return [
        {
            "candidate": one["name"], "GFLOPs": digits(one["gflops"]),
            "COCO AP": DASH if one["coco_ap"] is None else f"{one['coco_ap']:.1f}",
            "p90 ms": digits(one["p90_ms"]), "memory MB": digits(one["memory_mb"]),
            "file MB": digits(one["size_mb"]), "verdict": _verdict(one, told["best"]),
        }
        for one in told["candidates"]
        if one["status"] == "measured"
    ]  # fmt: skip


def lines(told: Mapping[str, Any]) -> list[str]:
    """What else is to be said, the answer last."""
    said = [
        f"{one['name']}: {'INVALID: ' if one['status'] == 'invalid' else ''}{one['reason']}"
        for one in told["candidates"]
        if one["status"] in ("invalid", "impossible")
    ]
    open_ = [one for one in told["candidates"] if one["status"] == "open"]
    reasons: dict[str, list[str]] = {}
    for one in open_:
        why = one["reason"] or "not measured yet"
        for start in ("no better than", "predicted slower than"):  # the page says than which
            why = f"{start} one that keeps the budgets" if why.startswith(start) else why
        reasons.setdefault(why, []).append(one["name"])
    said += [f"not measured, {why}: {_some(names)}" for why, names in reasons.items()]
    return [*said, *_answer(told)]


def _answer(told: Mapping[str, Any]) -> list[str]:
    if not any(one["status"] == "measured" for one in told["candidates"]):
        return [f"nothing could be measured on {told['device']}"]
    if told["best"]:
        budgeted = any(one["budgets"] for one in told["candidates"])
        kind = "within the budgets" if budgeted else "not dominated (no budget of the gate is on this device)"
        example = f"edgekd shortlist RECIPE --device {told['device']} --pick {told['best'][-1]} --out recipe.yaml"
        return [f"best {kind}: {', '.join(told['best'])}", f"take one of them: {example}"]
    closest = told["nearest"]
    if told["undecided"]:
        near = f" (the nearest: {closest['name']}, {closest['times']:.2f} times {closest['budget']})" if closest else ""
        count = len(told["undecided"])
        return [f"none measured so far keeps the budgets{near}; {count} may: go on by the same command without --most"]
    if closest is None:
        return ["which candidates keep the budgets is not known: what they limit was not measured there"]
    limit = next(one for one in told["candidates"] if one["name"] == closest["name"])["budgets"][closest["budget"]]
    return [
        f"no candidate keeps the budgets; the nearest is {closest['name']}: {closest['times']:.2f} times "
        f"{closest['budget']} ({digits(limit)} {_UNITS[closest['budget']]}); raise it, or name smaller students or "
        "sizes in search.students"
    ]


def _entry(
    found: Shortlist, one: Candidate, budgets: dict[str, float], predicted: Prediction | None, dominating: str | None
) -> dict[str, Any]:
    result = found.result(one)
    return {
        "name": one.name, "model": one.model, "size_px": one.size_px, "target": one.target.name,
        "precision": one.target.precision, "series": one.series, "parameters": one.facts.parameters,
        "gflops": round(one.facts.gflops, 4), "coco_ap": one.coco_ap, "status": result.status,
        "reason": result.reason or found.skipped.get(one.name, ""),
        **{figure: getattr(result, figure) for figure in ("p50_ms", *BUDGETS.values())},
        "spread": result.spread, "notes": list(result.notes), "budgets": budgets, "excess": excess(result, budgets),
        "fits": found.kept(one), "surpassed_by": surpassed_by(one, found.keeping),
        "dominated_by": dominating if result.status == "measured" else None,
        "predicted": None if predicted is None or result.status != "open" else {"p90": asdict(predicted)},
    }  # fmt: skip


def _order(entry: Mapping[str, Any]) -> tuple[bool, float, str]:
    return entry["p90_ms"] is None, entry["p90_ms"] or 0.0, entry["name"]


def _verdict(one: Mapping[str, Any], best: Sequence[str]) -> str:
    broken = [f"over {budget}" for budget, share in one["excess"].items() if share is not None and share > 1]
    if broken:
        return ", ".join(broken)
    if one["name"] in best:
        return "best"
    return "dominated" if one["dominated_by"] else "fits" if one["fits"] else "-"


def _some(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
