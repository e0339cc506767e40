"""Does a shortlist of untrained students keep its promise? Its time for twelve candidates, and its order.

    python benchmarks/shortlist.py --out runs/lanes       # the shortlist, then twelve short trainings
    python benchmarks/shortlist.py --out D --busy         # where others use the machine

Twelve candidates (four models, three sizes, ONNX in float32) are measured by `edgekd shortlist --all`. Then the recipe
of each is written as `--pick` writes it, its student is trained for one short epoch, exported and profiled by
`edgekd run`, and the two orders of latencies are compared: by the median, and by the least time of all samples, which
other programs disturb least. A pair that swaps places counts as a swap only if its medians lie further apart than the
processes of either measurement. `--busy` accepts measurements that a busy machine makes invalid, whose medians are not
those of a quiet one. Called again, both go on where they were.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from paired import environment, say

GOAL_S = 360.0
RECIPE = """\
name: lanes
threads: 2
data: {format: digits, imgsz: 160, train: 32, val: 8, test: 8}
student: {model: yolo11n}
train: {imgsz: 320, epochs: 1, batch: 8, nbs: 8, optimizer: AdamW, warmup_epochs: 0.0, mosaic: 0.0, amp: false}
export: [onnx-fp32]
devices: [local]
profile: {protocol: quick}
search:
  students: {models: [yolo11p, yolo11n, yolov8p, yolov8n], sizes: [320, 224, 160]}
"""


def main() -> None:
    """Measure, train, compare; prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that keeps everything")
    parser.add_argument("--busy", action="store_true", help="accept what a busy machine makes invalid")
    parser.add_argument(
        "--trained", type=int, default=12, help="of the twelve, as many evenly over their order are trained"
    )
    options = parser.parse_args()
    if options.busy:
        accept_busy()
    found, seconds = shortlisted(options.out)
    rows = [row(options.out, one) for one in found.candidates]
    chosen = evenly(rows, options.trained)
    result: dict[str, Any] = {
        "candidates": len(rows), "shortlist_seconds": round(seconds, 1), "goal_seconds": GOAL_S, "busy": options.busy,
        "environment": environment(),
    }  # fmt: skip
    for one, entry in zip(found.candidates, rows, strict=True):
        if entry in chosen:
            entry["trained"] = trained(found, options.out, one)
    if len(chosen) > 1:
        result |= compared(chosen)
    print(json.dumps({**result, "rows": rows}, indent=2))


def evenly(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many of the rows, from the fastest to the slowest in equal steps."""
    ordered = sorted(rows, key=lambda one: one["untrained"]["min"])
    if count < 2:
        return ordered[:count]
    return [ordered[round(step * (len(ordered) - 1) / (count - 1))] for step in range(min(count, len(ordered)))]


def accept_busy() -> None:
    """Measurements of a process that waited for a core are valid here."""
    from edgekd.measure.latency import PROTOCOLS

    PROTOCOLS["quick"] = replace(PROTOCOLS["quick"], max_waited=1.0)


def shortlisted(out: Path) -> tuple[Any, float]:
    """The shortlist, and how long it took now."""
    from edgekd.search.shortlist import shortlist

    out.mkdir(parents=True, exist_ok=True)
    recipe = out / "lanes.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    started = time.monotonic()
    found = shortlist(recipe, "local", out / "untrained", everything=True, turn_seconds=600)
    return found, time.monotonic() - started


def trained(found: Any, out: Path, candidate: Any) -> dict[str, Any]:
    """Figures of the same student once it is trained, by a whole run of the recipe that `--pick` writes."""
    from edgekd.pipeline import run
    from edgekd.search.picked import write_picked

    say(f"training {candidate.name}")
    recipe = out / f"{candidate.run}.yaml"
    if not recipe.exists():
        write_picked(found, out / "lanes.yaml", candidate.name, recipe, "local")
    run(recipe, out / "trained" / candidate.run, turn_seconds=600)
    return figures(out / "trained" / candidate.run)


def row(out: Path, candidate: Any) -> dict[str, Any]:
    """A candidate, and its figures in the shortlist."""
    return {"name": candidate.name, "untrained": figures(out / "untrained" / candidate.run)}


def figures(run: Path) -> dict[str, Any]:
    """Median, 90th percentile, least time in ms, and the spread of the processes' medians."""
    content = json.loads((run / "profile" / "onnx-fp32@local.json").read_text())
    whole = content["latency_ms"]["end_to_end"]
    return {key: whole[key] for key in ("p50", "p90", "min")} | {
        "spread": content["spread"]["p50"], "valid": content["valid"]
    }  # fmt: skip


def compared(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How alike the two orders are."""
    from scipy.stats import kendalltau, spearmanr

    result: dict[str, Any] = {}
    for key in ("p50", "min"):
        before, after = ([one[side][key] for one in rows] for side in ("untrained", "trained"))
        orders = [[one["name"] for one in sorted(rows, key=lambda one, s=side: one[s][key])] for side in _SIDES]
        result[key] = {
            "same_order": orders[0] == orders[1],
            "swaps": sum(swapped(one, other, key) for one, other in combinations(rows, 2)),
            "pairs": len(rows) * (len(rows) - 1) // 2,
            "spearman": round(float(spearmanr(before, after)[0]), 4),
            "kendall": round(float(kendalltau(before, after)[0]), 4),
            "largest_ratio": round(max(b / a for a, b in zip(before, after, strict=True)), 3),
            "least_ratio": round(min(b / a for a, b in zip(before, after, strict=True)), 3),
        }
    return result


_SIDES = ("untrained", "trained")


def swapped(one: dict[str, Any], other: dict[str, Any], key: str) -> bool:
    """Whether two candidates change places by more than their processes differ."""
    signs = []
    for side in _SIDES:
        first, second = one[side], other[side]
        apart = max(first["spread"] or 0.0, second["spread"] or 0.0) * min(first[key], second[key])
        difference = first[key] - second[key]
        signs.append(0 if abs(difference) <= apart else (1 if difference > 0 else -1))
    return signs[0] * signs[1] < 0


if __name__ == "__main__":
    main()
