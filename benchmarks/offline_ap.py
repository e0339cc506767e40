"""What stored views cost in accuracy: AP of students that read K views against students whose teacher is asked online.

    python benchmarks/offline_ap.py                            # 5 settings x 3 seeds; about 1 hour on 2 quiet cores
    python benchmarks/offline_ap.py --views 4 --seeds 100      # one row beside the online one
    python benchmarks/offline_ap.py --summary

The quickstart's pair and schedule on `digits`, with the methods named; one store serves every K and seed, and the row
of most views, which fills it, runs first. A row is a run of the student, online of its control as well, with the AP on
the test split. A row is appended to benchmarks/results/offline_ap.jsonl as soon as it is there; the same command goes
on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import kept
from paired import ROOT, environment, say, use_cores

COMPARED = ("methods", "set")  # rows of other ones are of another experiment
Asked = tuple[int, int]  # K, or 0: online; and the seed


def overrides(options: argparse.Namespace, views: int, seed: int) -> tuple[str, ...]:
    """Of the quickstart, for one row; 0 views are online."""
    own = [f"seed={seed}", f"distill={json.dumps(options.methods)}", "export=[]", "devices=[]", "gate={}",
           "threads=1", f"control={json.dumps(not views)}", *options.set]  # fmt: skip
    if views:
        own += ["teacher.knowledge=disk", f"teacher.views={views}", f"teacher.store={options.work / 'store'}"]
    return tuple(own)


def row(asked: Asked, options: argparse.Namespace) -> dict[str, Any]:
    """One run."""
    use_cores(1, False)
    from edgekd import pipeline

    (views, seed), started = asked, time.monotonic()
    say(f"seed {seed}, {f'{views} views' if views else 'online'}")
    out = options.work / f"views-{views}-seed-{seed}"
    pipeline.run(ROOT / "recipes" / "quickstart.yaml", out, overrides(options, views, seed))
    models = json.loads((out / "test.json").read_text())["models"]
    student = json.loads((out / "student" / "metrics.json").read_text())
    return {
        "views": views, "seed": seed, "methods": options.methods, "set": options.set,
        "test_ap": {name: models[name]["ap"] for name in ("control", "student") if name in models},
        "student_seconds": student["seconds"], "seconds": round(time.monotonic() - started, 1),
        "environment": environment("torch", "ultralytics"),
    }  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and what offline differs from online by, of seeds that both have."""
    found: dict[str, Any] = {}
    online = {one["seed"]: one["test_ap"]["student"] for one in rows if not one["views"]}
    for views in sorted({one["views"] for one in rows}):
        own = {one["seed"]: one["test_ap"] for one in rows if one["views"] == views}
        differences = [ap["student"] - online[seed] for seed, ap in own.items() if seed in online]
        found[f"{views} views" if views else "online"] = {
            "seeds": sorted(own),
            "student_ap": round(mean(ap["student"] for ap in own.values()), 4),
            "control_ap": None if views else round(mean(ap["control"] for ap in own.values()), 4),
            "less_than_online": [round(-one, 4) for one in differences] if views else None,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "offline_ap", help="folder of runs and store")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "offline_ap.jsonl")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--methods", nargs="+", default=["logit", "ld"])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="more of the recipe, for a trial")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--summary", action="store_true", help="print what there is")
    options = parser.parse_args()
    options.work = options.work.absolute()
    options.work.mkdir(parents=True, exist_ok=True)
    rows = kept.read(options.out)
    there = {(one["views"], one["seed"]) for one in rows if all(one[key] == getattr(options, key) for key in COMPARED)}
    asked = [(views, seed) for seed in options.seeds for views in (max(options.views), 0, *options.views)]
    missing = [] if options.summary else [one for one in dict.fromkeys(asked) if one not in there]
    for part in filter(None, (missing[:1], missing[1:])):  # the first fills the store for all
        with get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
            for found in pool.imap_unordered(partial(row, options=options), part):
                rows.append(found)
                kept.add(options.out, found)
    print(json.dumps({"benchmark": "offline_ap", "rows": len(rows), "summary": summary(rows)}, indent=2))


if __name__ == "__main__":
    main()
