"""A trial in a process of a worker: the proxy is opened once a process, from the files of the search."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from edgekd.run_dir import RunDir
from edgekd.search.distillers.proxy import Proxy
from edgekd.search.distillers.space import space_of
from edgekd.search.distillers.trials import Runner
from edgekd.search.pools.contract import Job, Lags, Work
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context


def work_of(path: Path, overrides: tuple[str, ...], out: Path) -> Work:
    """What workers run of a search; recipe, data and `out` lie where all of them see them, under the same paths."""
    given = {"recipe": str(path.resolve()), "overrides": list(overrides), "out": str(out.resolve())}
    return Work(__name__, "run", given)


def run(given: Job, job: Job, lags: Lags) -> dict[str, Any]:
    """Train one candidate.

    Args:
        given: see `work_of`.
        job: `number`, `candidate` and `seed`.
    """
    proxy = _proxy(given["recipe"], tuple(given["overrides"]), given["out"])
    folder = proxy.context.path / "trials" / str(job["number"])
    runner = Runner(proxy, folder, proxy.context.bound.recipe.search.most_loss)
    return asdict(runner.run(job["candidate"], int(job["seed"]), lags))


@cache
def _proxy(recipe: str, overrides: tuple[str, ...], out: str) -> Proxy:
    """What the search made before its first trial is only read."""
    bound = bind_recipe(Path(recipe), overrides)
    context = Context(bound, RunDir.existing(Path(out)))
    return Proxy(context, space_of(bound.recipe.search, context.pair, bound.where))
