"""`edgekd search`: trials until the budget is spent, nothing is left, or candidates cannot be told apart any more."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgekd.atomic import as_written, read_json, write_json
from edgekd.distill.searched.options import Kind
from edgekd.errors import EnvironmentFault, InputError
from edgekd.plain import listed
from edgekd.progress import progress, say
from edgekd.run_dir import SEARCH, RunDir
from edgekd.search.distillers import finals, noise, side_by_side
from edgekd.search.distillers.candidates import CONTROL, in_words
from edgekd.search.distillers.errors import before
from edgekd.search.distillers.guidance import claims, ordered
from edgekd.search.distillers.noise import Noise
from edgekd.search.distillers.proxy import Proxy
from edgekd.search.distillers.results import PAGE, SCHEMA, Results, best_of
from edgekd.search.distillers.side_by_side import SideBySide
from edgekd.search.distillers.space import Space, space_of
from edgekd.search.distillers.strategy import Budgeted, Divide, Strategy
from edgekd.search.distillers.study import Study, Tried, require_optuna, twin
from edgekd.search.distillers.trainings import Trainings, Wanted
from edgekd.search.distillers.trials import Outcome, Runner
from edgekd.search.distillers.worker import work_of
from edgekd.search.pools.cluster import require_ray
from edgekd.search.pools.contract import Pool, Work
from edgekd.stages.binding import Bound, bind_recipe
from edgekd.stages.context import Context
from edgekd.stages.models import check_runtime
from edgekd.training.differing import differences
from edgekd.training.differing import in_words as differing_in_words


def search(path: Path, out: Path, overrides: tuple[str, ...] = (), *, fresh: bool = False) -> Results:
    """Search, or go on with a search.

    Args:
        path: the recipe.
        out: folder of the search.
        fresh: delete first what edgekd wrote there.

    Raises:
        InputError: no teacher, an empty space, or the folder holds a search of another space, data or proxy.
        EnvironmentFault: Optuna or Ray is not installed, a cluster cannot be reached.
        Interrupted: by a signal; the same command goes on.
    """
    return search_bound(bind_recipe(path, overrides), out, fresh=fresh)


def search_bound(bound: Bound, out: Path, *, fresh: bool = False) -> Results:
    """As `search`, of a recipe that is bound."""
    require_optuna()
    if bound.recipe.teacher is None:
        raise InputError(f"{bound.where}: search: needs a 'teacher', from whom candidates learn")
    if side_by_side.is_asked_for(bound.recipe.search):
        side_by_side.require_room(bound)
        out = out.resolve()  # as workers call it
        if bound.recipe.search.ray is not None:
            require_ray()
    with RunDir.held(out, bound.recipe.name, bound.base, bound.locked(), fresh=fresh) as run:
        context = Context(bound, run)
        check_runtime(bound)
        space = space_of(bound.recipe.search, context.pair, bound.where)
        proxy = Proxy(context, space)
        identity = {"space": space.as_json(), "proxy": proxy.identity(), "search": _deciding(bound)}
        _require_a_search(out, run)
        _require_same(out, identity)
        with _pool(context, work_of(bound.base, out)) as pool:  # before anything is trained
            run.accept()
            write_json(context.path / SEARCH, {"schema": SCHEMA, "identity": identity})
            return _search(context, space, proxy, identity, pool)


def _pool(context: Context, work: Work) -> AbstractContextManager[Pool | None]:
    """Who runs trials beside one another, if that is asked for."""
    if not side_by_side.is_asked_for(context.bound.recipe.search):
        return nullcontext()
    return side_by_side.pool_of(context.bound, work, context.path)


def _search(context: Context, space: Space, proxy: Proxy, identity: dict[str, Any], pool: Pool | None) -> Results:
    recipe, began = context.bound.recipe, time.monotonic()
    if recipe.teacher is not None and recipe.teacher.knowledge == "disk":
        say("note: teacher.knowledge: disk is not read here; trials keep in memory what the teacher says")
    proxy.warm_up()
    if pool:
        proxy.lay_out()
    runner = Runner(proxy, context.path / "trial", recipe.search.most_loss)
    errors, control = before(context, runner)
    by_errors = claims(errors["before"]["errors"]["costs"], errors["teacher"]["errors"]["costs"])
    order = ordered(space.kinds, by_errors) if recipe.search.order == "errors" else list(space.kinds)
    say(f"{space.entries:,} entries, {space.candidates:.3g} candidates; {proxy.extent.steps} steps a trial")
    say(f"order of knowledge: {', '.join(order)} ({recipe.search.order})")
    for kind, why in space.left_out.items():
        say(f"note: {kind} is left out: {why}")
    trainings = Trainings(context.path, proxy.identity(), partial(_train, runner, pool))
    if control:
        trainings.keep(CONTROL, recipe.seed, control)
    found = _noise(trainings, space, order, range(recipe.seed, recipe.seed + recipe.search.repeats))
    study = Study(context.path, space, recipe.search, recipe.seed, proxy.extent.passes, trainings)
    strategy: Strategy = (
        Budgeted(space, order)
        if recipe.search.strategy == "budgeted"
        else Divide(space, order, recipe.search.evolution, recipe.seed)
    )
    why = _Loop(context, study, strategy, runner, found, began).run(pool)
    others = range(recipe.seed + 1, recipe.seed + recipe.search.repeats)
    held = finals.hold(trainings, study.finished(), recipe.search.finalists, others)
    tried = study.finished()
    if pool and not trainings.failed and all(one.outcome.status != "failed" for one in tried):
        shutil.rmtree(context.path / "trials", ignore_errors=True)  # else workers.log says why
    results = Results(context, space, proxy, study, found, held, order, by_errors, errors, identity, why)
    if results.write(runner)["best"] is None:
        last = tried[-1].outcome.why
        raise EnvironmentFault(f"search: no trial came to its end (the last: {last}); see {context.path / PAGE}")
    return results


def _train(runner: Runner, pool: Pool | None, wanted: Wanted, told: Callable[[int, Outcome], None]) -> None:
    """Trainings that go on to their end, by whoever runs trials."""
    if pool:
        side_by_side.train(pool, [{"candidate": one, "seed": seed} for one, seed in wanted], told)
        return
    for place, (one, seed) in enumerate(wanted):
        told(place, runner.run(one, seed))


def _noise(trainings: Trainings, space: Space, order: Sequence[Kind], seeds: range) -> Noise:
    """How much scores differ by chance, by the first published candidate."""
    reference = next((one for kind in order if (one := space.published(kind))), None)
    return Noise() if reference is None or len(seeds) < 2 else noise.measure(trainings, reference, seeds)


@dataclass(frozen=True)
class _Loop:
    """Runs trials, one after the other or beside one another.

    Attributes:
        began: this call, by the monotonic clock.
    """

    context: Context
    study: Study
    strategy: Strategy
    runner: Runner
    noise: Noise
    began: float

    def run(self, pool: Pool | None) -> str:
        """Until the end; why it is the end.

        Args:
            pool: of whoever runs trials beside one another; None: one after the other, here.
        """
        recipe, tried = self.context.bound.recipe.search, self.study.finished()
        with progress("search", recipe.trials, done=min(len(tried), recipe.trials)) as advance:
            if pool is None:
                return self._in_turn(advance)

            ended = len(tried)

            def told(tried: list[Tried], line: str) -> None:
                nonlocal ended
                say(line)
                advance(len(tried) - ended, note=_note(tried))
                ended = len(tried)

            seed = self.context.bound.recipe.seed
            return SideBySide(self.study, self.strategy, pool, seed, recipe.trials, self._over, told).run()

    def _in_turn(self, advance: Callable[..., None]) -> str:
        tried = self.study.finished()
        while not (why := self._over(tried)):
            proposal = self.strategy.next(tried)
            if proposal is None:
                return "nothing is left to try"
            self._one(proposal.candidate, proposal.stage, tried)
            tried = self.study.finished()
            advance(note=_note(tried))
        return why

    def _one(self, proposed: Any, stage: str, tried: Sequence[Tried]) -> None:
        trial = self.study.begin(proposed, stage)
        outcome = self.study.seen(trial, tried) or self.runner.run(
            trial.candidate, self.context.bound.recipe.seed, trial.lags
        )
        self.study.end(trial, outcome)
        told = f"AP {outcome.score:.3f}" if outcome.score is not None else outcome.why
        say(f"trial {trial.number}: {told}: {in_words(trial.candidate)}")

    def _over(self, tried: Sequence[Tried]) -> str:
        """Why the search is over; empty while it is not. One trial there is, however little time."""
        recipe = self.context.bound.recipe.search
        if len(tried) >= recipe.trials:
            return f"all {recipe.trials} trials are done"
        if recipe.hours is not None and tried and time.monotonic() - self.began > 3600 * recipe.hours:
            return f"{recipe.hours:g} hours are over"
        if recipe.strategy == "budgeted" and stalled(tried, self.noise.deviation, recipe.patience):
            return f"no gain above the noise ({self.noise.deviation:.4f} AP) in {recipe.patience} trials"
        return ""


def stalled(tried: Sequence[Tried], deviation: float | None, patience: int) -> bool:
    """Whether the last `patience` trials found nothing that stands out from what was best before them."""
    if deviation is None or len(tried) <= patience:
        return False
    before, since = best_of(tried[:-patience]), best_of(tried[-patience:])
    if before is None or before.score is None:
        return False
    return since is None or since.score is None or since.score <= before.score + deviation


def _note(tried: Sequence[Tried]) -> str:
    best, control = best_of(tried), twin(CONTROL, tried)
    if best is None or best.score is None:
        return ""
    gain = f" ({best.score - control.score:+.3f})" if control and control.score is not None else ""
    return f"best AP {best.score:.3f}{gain} of trial {best.number}"


def _deciding(bound: Bound) -> dict[str, Any]:
    """What of the recipe's section decides what is tried; how long it goes on may change."""
    free = {"trials", "hours", "patience", "finalists", "kinds", "space", "proxy", "students", "workers", "ray"}
    return {**bound.recipe.search.model_dump(mode="json", exclude=free), "seed": bound.recipe.seed}


def _require_a_search(out: Path, run: RunDir) -> None:
    """Refuse the directory of a run, whose report would be replaced.

    Raises:
        InputError: names what is there.
    """
    stages = [name for name in run.manifest["stages"] if not name.startswith("search_")]
    if stages and not (out / SEARCH).is_file():
        raise InputError(
            f"--out {out}: holds a run (its stages: {listed(stages)}), no search; choose another --out, or --fresh to "
            "delete it"
        )


def _require_same(out: Path, identity: dict[str, Any]) -> None:
    """Refuse to go on with a search of something else.

    Raises:
        InputError: says what differs.
    """
    if (out / SEARCH).is_file():
        with as_written(out / SEARCH):
            before = read_json(out / SEARCH)["identity"]
        differing = differences(before, identity)
        if differing:
            raise InputError(
                f"--out {out}: holds a search that differs in {differing_in_words(differing)}; choose another --out, "
                "or --fresh to delete it"
            )
