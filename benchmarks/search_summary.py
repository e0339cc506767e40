"""What the rows of benchmarks/search.py say: how proxies rank, how the searches went, what the winner gains."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from statistics import fmean
from typing import Any

FULL_SEEDS = (0, 1)  # one training is off by as much as candidates are apart


def summary(everything: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rows say."""
    from edgekd.measure.paired_gain import paired_gain

    first, second = (full_aps(everything, (seed,)) for seed in FULL_SEEDS)
    both = [(first[number], second[number]) for number in first if number in second]
    told: dict[str, Any] = {"proxies": list(correlations(everything))}
    if len(both) > 1:
        told["full trainings of two seeds"] = correlated(*zip(*both, strict=True))
    told["searches"] = {
        row["search"]: {key: row[key] for key in ("steps", "finals", "order")}
        | {"best": row["best"]["score"], "curve": list(curve(row["trials"]))}
        for row in everything
        if row["part"] == "search"
    }
    aps: dict[str, dict[int, float]] = {}
    for row in everything:
        if row["part"] == "winner":
            former = row["method"] == "searched" and row["distill"] != best_found(everything)
            aps.setdefault("found before" if former else row["method"], {})[row["seed"]] = row["test"]
    told["winner"] = aps
    told["cpu_s_per_trial"] = [row["cpu_s_per_trial"] for row in everything if row["part"] == "cost"]
    for other in ("quickstart", "control"):
        shared = sorted(set(aps.get("searched", {})) & set(aps.get(other, {})))
        if len(shared) > 1:
            gain = paired_gain([aps["searched"][seed] for seed in shared], [aps[other][seed] for seed in shared])
            told[f"searched minus {other}"] = [gain.mean, gain.low, gain.high]
    return told


def correlations(everything: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """How the scores of each proxy go with full trainings of one seed, and with the means of two: as scored, and by the
    AP after each pass."""
    from edgekd.search.distillers.trials import Outcome

    proxies: dict[str, dict[int, list[float]]] = {}
    for row in everything:
        if row["part"] == "proxy" and row["score"] is not None:
            proxies.setdefault(json.dumps(row["proxy"]), {})[row["number"]] = row["values"]
    for settings, seeds in product(proxies, (FULL_SEEDS[:1], FULL_SEEDS)):
        full = full_aps(everything, seeds)
        found = {number: values for number, values in proxies[settings].items() if number in full}
        if len(found) > 2:
            aps = [full[number] for number in found]
            scores = [Outcome(values=values).score for values in found.values()]
            yield {
                "proxy": json.loads(settings), "seeds_of_full": len(seeds), "candidates": len(found),
                "score": correlated(scores, aps), "spearman_interval": rank_interval(scores, aps),
                "each_pass": [correlated(column, aps) for column in zip(*found.values(), strict=True)],
            }  # fmt: skip


def full_aps(everything: list[dict[str, Any]], seeds: Sequence[int]) -> dict[int, float]:
    """Mean AP of the full trainings of each candidate that was trained with all of these seeds."""
    aps: dict[int, dict[int, float]] = {}
    for row in everything:
        if row["part"] == "full":
            aps.setdefault(row["number"], {})[row["seed"]] = row["ap"]
    return {number: fmean(own[seed] for seed in seeds) for number, own in aps.items() if set(seeds) <= set(own)}


def correlated(ours: Sequence[float | None], theirs: Sequence[float]) -> list[float] | None:
    """Spearman's and Pearson's correlation; None where one side is constant."""
    from scipy.stats import pearsonr, spearmanr

    if len(set(ours)) < 2:
        return None
    return [round(float(of(ours, theirs)[0]), 3) for of in (spearmanr, pearsonr)]


def rank_interval(ours: Sequence[float | None], theirs: Sequence[float], fewest: int = 10) -> list[float] | None:
    """95 % interval of Spearman's correlation, of 4,000 bootstraps over candidates; None of few."""
    from scipy.stats import bootstrap, spearmanr

    if len(ours) < fewest:
        return None
    found = bootstrap(
        (ours, theirs), lambda one, other: spearmanr(one, other)[0], paired=True, vectorized=False,
        n_resamples=4000, method="percentile", random_state=0,
    )  # fmt: skip
    return [round(float(end), 2) for end in found.confidence_interval]


def curve(trials: list[dict[str, Any]]) -> Iterator[tuple[int, float]]:
    """(steps so far, best score so far), where it rises."""
    steps, best = 0, float("-inf")
    for one in trials:
        steps += one["steps"]
        if one["score"] is not None and one["score"] > best:
            best = one["score"]
            yield steps, best


def best_found(everything: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The methods that the budgeted search calls best."""
    found = (row for row in everything if row["part"] == "search" and row["search"] == "budgeted")
    return next((row["best"]["distill"] for row in found), None)
