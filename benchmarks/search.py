"""Is the proxy of `edgekd search` worth its name, which search finds most for its steps, and does the winner gain?

    python benchmarks/search.py                        # all parts: about 8 hours on 2 quiet cores
    python benchmarks/search.py --parts proxy full     # the proxy's scores and full trainings of random candidates
    python benchmarks/search.py --parts searches       # budgeted, evolution and random search, at equal steps
    python benchmarks/search.py --parts winner         # what was found, 5 fresh seeds on test
    python benchmarks/search.py --parts cost           # what a trial costs beside its training: seconds
    python benchmarks/search.py --summary              # print what is there

The pair, data and schedule are those of recipes/digits-search.yaml, which are the quickstart's. A full training is the
recipe's 16 epochs on all of train; its AP is on val for `full` (mean of two seeds), on test for `winner`. Rows are
appended to benchmarks/results/search.jsonl one at a time; the same command goes on where it was stopped. Parts may run
beside one another, in folders of their own (`--work`). `--set search.proxy.steps=240` and the like judge by another
proxy.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import kept
from gain_rows import ROOT
from search_summary import FULL_SEEDS, best_found, summary

RECIPE = ROOT / "recipes" / "digits-search.yaml"
RESULTS = ROOT / "benchmarks" / "results" / "search.jsonl"
PARTS = ("proxy", "full", "searches", "winner", "cost")
FINALISTS = ("searched", "quickstart", "control")
WINNER_SEEDS = (100, 101, 102, 103, 104)
# Name -> overrides of the recipe. Divide and conquer is as small as the paper's proportions allow within the trials.
SEARCHES: dict[str, tuple[str, ...]] = {
    "budgeted": (),
    "budgeted, plain order": ("search.order=plain",),
    # As many steps as the budgeted one took: twelve trials to their end, beside three that cost none.
    "random": ("search.sampler=random", "search.pruner=none", "search.patience=100000", "search.trials=15"),
    "evolution": (
        "search.strategy=divide", "search.pruner=none",
        "search.evolution={population: 4, iterations: 1, weights_iterations: 3}",
    ),
}  # fmt: skip


rows, add = partial(kept.read, RESULTS), partial(kept.add, RESULTS)


def drawn(space: Any, count: int) -> list[dict[str, Any]]:
    """Random candidates: each kind is on or off, at least one is on."""
    rng, found = random.Random(0), []
    while len(found) < count:
        candidate = {
            kind: {key: rng.choice(allowed) for key, allowed in choices.items()}
            for kind, choices in space.kinds.items()
            if rng.random() < 0.5
        }
        found += [candidate] if candidate else []
    return found


def full(work: Path, count: int, overrides: tuple[str, ...], backwards: bool) -> None:
    """Full trainings of random candidates, but for those that the proxy drops at once; one seed of all comes first."""
    from edgekd.search.distillers.candidates import entries_of

    with proxy_of(work / "full", overrides) as proxy:
        candidates = ordered(drawn(proxy.space, count), backwards)
    for seed, (number, candidate) in product(FULL_SEEDS, candidates):
        known = [row for row in rows() if row.get("number") == number]
        dropped = any(row["part"] == "proxy" and row["score"] is None for row in known)
        if not dropped and not any(row["part"] == "full" and row["seed"] == seed for row in known):
            distill = entries_of(candidate)
            ap = trained(work / f"full-{number}-{seed}", distill, overrides, seed)["val"]
            add({"part": "full", "number": number, "seed": seed, "distill": distill, "ap": ap})


def proxy(work: Path, count: int, overrides: tuple[str, ...], backwards: bool) -> None:
    """The proxy's score of the same candidates."""
    from edgekd.search.distillers.trials import Runner

    with proxy_of(work / "proxy", overrides) as judge:
        settings = {key: judge.identity()[key] for key in ("steps", "warm_steps", "lr_factor")}
        if group := judge.context.bound.recipe.search.proxy.group:
            settings["group"] = group
        judge.warm_up()
        recipe = judge.context.bound.recipe
        runner = Runner(judge, work / "proxy" / "trial", recipe.search.most_loss)
        for number, candidate in ordered(drawn(judge.space, count), backwards):
            known = [row for row in rows() if row["part"] == "proxy" and row["proxy"] == settings]
            if not any(row["number"] == number for row in known):
                found = runner.run(candidate, recipe.seed)
                add({"part": "proxy", "proxy": settings, "number": number, "score": found.score,
                     "values": found.values, "why": found.why})  # fmt: skip


@contextmanager
def proxy_of(folder: Path, overrides: tuple[str, ...]) -> Iterator[Any]:
    """The recipe's proxy, in a run directory that is held."""
    from edgekd.run_dir import RunDir
    from edgekd.search.distillers.proxy import Proxy
    from edgekd.search.distillers.space import space_of
    from edgekd.stages.binding import bind_recipe
    from edgekd.stages.context import Context

    bound = bind_recipe(RECIPE, overrides)
    with RunDir.held(folder, bound.recipe.name, bound.base, bound.locked()) as run:
        context = Context(bound, run)
        yield Proxy(context, space_of(bound.recipe.search, context.pair, bound.where))


def ordered(candidates: list[dict[str, Any]], backwards: bool) -> list[tuple[int, dict[str, Any]]]:
    """With their numbers; two processes that begin at either end meet."""
    return list(enumerate(candidates))[:: -1 if backwards else 1]


def searches(work: Path, names: list[str], overrides: tuple[str, ...]) -> None:
    """Each of these searches once, with the recipe's trials."""
    from edgekd.search.distillers.search import search
    from edgekd.search.distillers.show import read

    done = {row["search"] for row in rows() if row["part"] == "search"}
    for name in names:
        if name not in done:
            own = SEARCHES[name]
            out = work / name.replace(", ", "-").replace(" ", "-")
            search(RECIPE, out, (*own, *overrides))
            report = read(out)
            trials = [{key: one[key] for key in ("score", "steps", "status")} for one in report["trials"]]
            add({"part": "search", "search": name, "best": report["best"], "control": report["control"],
                 "noise": report["noise"], "steps": report["steps"], "ended": report["ended"], "trials": trials,
                 "order": report["order"], "finals": report["finals"]})  # fmt: skip


def winner(work: Path, names: list[str], overrides: tuple[str, ...]) -> None:
    """Of these: what the budgeted search found, the quickstart's combination, and the control."""
    found = best_found(rows())
    if found is None:
        raise SystemExit("no budgeted search yet: run --parts searches first")
    done = [(row["distill"], row["seed"]) for row in rows() if row["part"] == "winner"]
    lists = {"searched": found, "quickstart": "quickstart", "control": []}
    for method, seed in product(names, WINNER_SEEDS):
        if (lists[method], seed) not in done:
            told = {"part": "winner", "method": method, "seed": seed, "distill": lists[method]}
            add({**told, **trained(work / f"winner-{method}-{seed}", lists[method], overrides, seed)})


def everything() -> Any:
    """The whole space, whatever the pair."""
    from edgekd.distill.searched.options import CHOICES, WEIGHTS
    from edgekd.search.distillers.space import Space

    return Space({kind: {**choices, "weight": WEIGHTS} for kind, choices in CHOICES.items()}, {})


def cost(work: Path, count: int = 100) -> None:
    """Processor time of the study alone: trials over the whole space whose scores are made up."""
    from tempfile import TemporaryDirectory
    from time import process_time

    from edgekd.recipe.search import SearchRecipe
    from edgekd.search.distillers.study import Study
    from edgekd.search.distillers.trials import Outcome

    space = everything()
    with TemporaryDirectory(dir=work) as folder:
        study, began = Study(Path(folder), space, SearchRecipe(), 0, 4), process_time()
        for _ in range(count):
            trial = study.begin(None, "sampler")
            values = [done / 100 + len(trial.candidate) / 1000 for done in range(1, 5)]
            for done, value in enumerate(values, start=1):
                trial.lags(done, value)
            study.end(trial, Outcome("complete", values, "", 0))
            study.finished()
        add({"part": "cost", "trials": count, "cpu_s_per_trial": round((process_time() - began) / count, 4)})


def trained(folder: Path, distill: Any, overrides: tuple[str, ...], seed: int = 0) -> dict[str, float]:
    """AP on val and test of a full training."""
    from edgekd import pipeline

    given = (f"distill={json.dumps(distill)}", "control=false", f"seed={seed}", *overrides)
    pipeline.run(RECIPE, folder, given)
    measured = json.loads((folder / "student" / "metrics.json").read_text())
    on_test = json.loads((folder / "test.json").read_text())["models"]["student"]
    return {"val": measured["ap"], "test": on_test["ap"]}


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1])
    parser.add_argument("--candidates", type=int, default=25, help="of parts full and proxy")
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES), help="of part searches")
    parser.add_argument("--finalists", nargs="+", choices=FINALISTS, default=FINALISTS, help="of part winner")
    parser.add_argument("--backwards", action="store_true", help="parts full and proxy from the last candidate on")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-search"), help="folder of the runs")
    parser.add_argument("--set", action="append", default=[], help="override of the recipe (repeatable)")
    parser.add_argument("--summary", action="store_true", help="print what is there and train nothing")
    given = parser.parse_args()
    overrides = tuple(given.set)
    if not given.summary:
        given.work.mkdir(parents=True, exist_ok=True)
        for part in given.parts:
            {
                "full": lambda: full(given.work, given.candidates, overrides, given.backwards),
                "proxy": lambda: proxy(given.work, given.candidates, overrides, given.backwards),
                "searches": lambda: searches(given.work, given.searches, overrides),
                "winner": lambda: winner(given.work, given.finalists, overrides),
                "cost": lambda: cost(given.work),
            }[part]()
    print(json.dumps(summary(rows()), indent=1))


if __name__ == "__main__":
    main()
