"""How much of a trial's AP do its held-out images owe to their likeness with those it trained on?

    python benchmarks/search_held_out.py --set threads=1     # 5 min of a core for each seed
    python benchmarks/search_held_out.py --seeds 1 2 3

Trials of `edgekd search` are judged on images that are held out of train. Splits of `digits` share neither a digit nor
a photograph, but images of one split do. Here the control and what the budgeted search found, as it stands in
benchmarks/results/search.jsonl, are trained as trials are, and judged on the images trained on, those held out, and
val. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from search import best_found, proxy_of, rows


def main() -> None:
    """Train and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="of the trainings")
    parser.add_argument("--set", action="append", default=[], help="override of the recipe (repeatable)")
    given = parser.parse_args()
    found = best_found(rows())
    if found is None:
        raise SystemExit("no budgeted search yet: run benchmarks/search.py --parts searches first")
    candidates = {"control": {}, "searched": candidate_of(found)}
    with TemporaryDirectory() as folder, proxy_of(Path(folder) / "proxy", tuple(given.set)) as proxy:
        print(json.dumps([
            {"method": name, "seed": seed, **judged(proxy, candidate, seed, Path(folder) / "trial")}
            for seed in given.seeds for name, candidate in candidates.items()
        ], indent=1))  # fmt: skip


def candidate_of(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Entries of a recipe as a search holds them."""
    return {
        one["knowledge"]: {key: value for key, value in one.items() if key not in ("method", "knowledge")}
        for one in entries
    }


def judged(proxy: Any, candidate: dict[str, Any], seed: int, folder: Path) -> dict[str, float]:
    """AP of one training, by where the images come from."""
    student, own = proxy.train(candidate, seed, folder), proxy.data
    where = {"trained on": own.splits["train"], "held out": own.splits["val"], "val": proxy.context.data.splits["val"]}
    aps = {}
    for name, images in where.items():
        proxy.data = replace(own, splits={**own.splits, "val": images})
        aps[name] = proxy.breakdown(student, name)["ap"]
    proxy.data = own
    return aps


if __name__ == "__main__":
    main()
