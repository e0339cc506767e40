"""A trial in a process of a worker: the proxy is opened once a process, from the files of the search."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from edgekd.run_dir import RunDir
from edgekd.run_dir.manifest import LOCKED_RECIPE
from edgekd.search.distillers.proxy import Proxy
from edgekd.search.distillers.space import space_of
from edgekd.search.distillers.trials import Runner
from edgekd.search.pools.contract import Job, Lags, Work
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context


def work_of(base: Path, out: Path) -> Work:
    """What workers run of a search, whose recipe is written down in `out`.

    All of them see `out`, the data and what the recipe names below `base` under the same paths.
    """
    return Work(__name__, "run", {"base": str(base.resolve()), "out": str(out.resolve())})


def run(given: Job, job: Job, lags: Lags) -> dict[str, Any]:
    """Train one candidate.

    Args:
        given: see `work_of`.
        job: `number`, `candidate` and `seed`.
    """
    proxy = _proxy(given["base"], given["out"])
    folder = proxy.context.path / "trials" / str(job["number"])
    runner = Runner(proxy, folder, proxy.context.bound.recipe.search.most_loss)
    return asdict(runner.run(job["candidate"], int(job["seed"]), lags))


@cache
def _proxy(base: str, out: str) -> Proxy:
    """What the search made before its first trial is only read."""
    bound = bind_recipe(Path(out) / LOCKED_RECIPE, base=Path(base))
    context = Context(bound, RunDir.existing(Path(out)))
    return Proxy(context, space_of(bound.recipe.search, context.pair, bound.where))
