"""Is a Ray cluster kept busy by `edgekd search`? Two workers against one on this machine, and 64 that only sleep.

    python benchmarks/search_scale.py                       # both parts: about 25 minutes on 2 quiet cores
    python benchmarks/search_scale.py --parts pair          # real trials, one thread each
    python benchmarks/search_scale.py --parts simulated     # trials as long as those of `pair` were, asleep
    python benchmarks/search_scale.py --summary             # print what is there

Either part starts a cluster of its own on this machine. `pair` searches twice with recipes/digits-search.yaml, the same
trials by one worker and by two; its efficiency is the time of one worker over twice the time of two, from the first
trial's beginning to the last one's end. `simulated` counts how much of 64 workers' time trials filled, from the moment
at which all of them had one until no more was begun (then workers run dry, as in any search that ends), and over the
whole. Rows are appended to benchmarks/results/search_scale.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import kept
from gain_rows import ROOT
from search import RECIPE, everything

ROWS = ROOT / "benchmarks" / "results" / "search_scale.jsonl"
WORKERS, EACH, PASSES = 64, 8, 4  # simulated ones, their trials on average, and how often a trial reports


@contextmanager
def cluster(cpus: int) -> Iterator[str]:
    """Address of a Ray cluster of one node."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "object_store_memory": 200_000_000})
    try:
        yield made.address
    finally:
        made.shutdown()


def pair(work: Path, trials: int) -> None:
    """The same trials by one worker, and by two."""
    from edgekd import api

    for workers in (1, 2):
        out = work / f"workers-{workers}"
        with cluster(workers) as address:
            given = {
                "threads": 1, "search.ray": address, "search.trials": trials, "search.repeats": 0,
                "search.sampler": "random", "search.pruner": "none",
            }  # fmt: skip
            api.search(RECIPE, out, overrides=given, fresh=True)
        spans = told(out)
        lengths = [round(end - begin, 2) for begin, end in spans]
        add({"part": "pair", "workers": workers, "trials": len(spans), "seconds": whole(spans), "lengths": lengths})


def told(out: Path) -> list[tuple[float, float]]:
    """When each trial began and ended, as the study has it."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    from edgekd.search.distillers.study import JOURNAL, NAME

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(out / JOURNAL)))
    trials = optuna.load_study(study_name=NAME, storage=storage).get_trials(deepcopy=False)
    return [
        (one.datetime_start.timestamp(), one.datetime_complete.timestamp())
        for one in trials
        if one.datetime_start and one.datetime_complete
    ]


def simulated() -> None:
    """Many workers that sleep, under the loop, the study and the sampler of a real search."""
    from edgekd.recipe.search import SearchRecipe
    from edgekd.search.distillers.side_by_side import SideBySide
    from edgekd.search.distillers.strategy import Budgeted
    from edgekd.search.distillers.study import Study, Tried
    from edgekd.search.pools.cluster import Cluster
    from edgekd.search.pools.contract import Work

    alone = last("pair", 1)
    if alone is None:
        raise SystemExit("no lengths of trials yet: run --parts pair first")
    space, most = everything(), WORKERS * EACH

    def over(tried: list[Tried], _: float) -> str:
        return "enough" if len(tried) >= most else ""

    with TemporaryDirectory() as folder, cluster(WORKERS) as address:
        study = Study(Path(folder), space, SearchRecipe(pruner="none"), 0, PASSES)
        work = Work(Path(__file__).stem, "slept", {"lengths": alone["lengths"], "folder": folder})
        with Cluster(work, address, 1) as pool:
            SideBySide(study, Budgeted(space, list(space.kinds)), pool, 0, most, over, lambda *_: None).run()
        slept_s = [json.loads(path.read_text()) for path in Path(folder).glob("slept-*.json")]
    add({"part": "simulated", "workers": WORKERS, "trials": len(slept_s), **filled([(a, b) for a, b in slept_s])})


def slept(given: Mapping[str, Any], job: Mapping[str, Any], lags: Any) -> dict[str, Any]:
    """What a worker runs: a trial that takes its time and finds what its number says."""
    number, began, values = int(job["number"]), time.time(), []
    for done in range(1, PASSES + 1):
        time.sleep(given["lengths"][number % len(given["lengths"])] / PASSES)
        values.append(done / PASSES * (number * 37 % 100) / 100)
        if lags(done, values[-1]):
            break
    (Path(given["folder"]) / f"slept-{number}.json").write_text(json.dumps([began, time.time()]))
    status = "complete" if len(values) == PASSES else "pruned"
    return {"status": status, "values": values, "why": "", "steps": len(values)}


def filled(spans: Sequence[tuple[float, float]]) -> dict[str, float]:
    """How much of all workers' time trials filled: while there was enough to do, and over the whole."""
    begins = sorted(begin for begin, _ in spans)
    first, last = begins[WORKERS - 1], begins[-1]
    within = sum(max(0.0, min(end, last) - max(begin, first)) for begin, end in spans)
    everything = sum(end - begin for begin, end in spans)
    return {
        "seconds": whole(spans), "trial_s": round(everything / len(spans), 2),
        "efficiency": round(within / (WORKERS * (last - first)), 4),
        "efficiency_whole": round(everything / (WORKERS * whole(spans)), 4),
    }  # fmt: skip


def whole(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds from the first beginning to the last end."""
    return round(max(end for _, end in spans) - min(begin for begin, _ in spans), 2)


def last(part: str, workers: int) -> dict[str, Any] | None:
    """The newest row of a part, if there is one."""
    found = [row for row in kept.read(ROWS) if (row["part"], row["workers"]) == (part, workers)]
    return found[-1] if found else None


def add(row: dict[str, Any]) -> None:
    """Keep one, with the machine's load."""
    kept.add(ROWS, {**row, "load": round(os.getloadavg()[0], 1)})


def summary() -> dict[str, Any]:
    """What the rows say; of each part the last."""
    alone, both = last("pair", 1), last("pair", 2)
    found: dict[str, Any] = {"simulated": last("simulated", WORKERS)}
    if alone and both:
        found["pair"] = {
            "trials": both["trials"], "seconds": [alone["seconds"], both["seconds"]],
            "trials_per_hour": [round(3600 * row["trials"] / row["seconds"], 1) for row in (alone, both)],
            "efficiency": round(alone["seconds"] / (2 * both["seconds"]), 4),
            "trial_s": [round(mean(row["lengths"]), 2) for row in (alone, both)],
        }  # fmt: skip
    return found


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("pair", "simulated"), default=("pair", "simulated"))
    parser.add_argument("--trials", type=int, default=12, help="of part pair")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "bench-search-scale", help="folder of the searches"
    )
    parser.add_argument("--summary", action="store_true", help="print what is there and run nothing")
    given = parser.parse_args()
    if not given.summary:
        given.work.mkdir(parents=True, exist_ok=True)
        for part in given.parts:
            {"pair": lambda: pair(given.work, given.trials), "simulated": simulated}[part]()
    print(json.dumps(summary(), indent=1))


if __name__ == "__main__":
    main()
