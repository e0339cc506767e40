"""`edgekd shortlist`: which student, at which size and in which precision, is quick enough for a device."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from edgekd.atomic import disk_faults, make_folder, sha256_json
from edgekd.data import config as data_config
from edgekd.devices import catalog
from edgekd.devices.contract import DeviceSpec
from edgekd.errors import EnvironmentFault, InputError
from edgekd.gate.policy import check_names
from edgekd.gate.verdict import EXIT_CODES
from edgekd.progress import say
from edgekd.recipe.schema import TargetEnvelope
from edgekd.search.facts import FactsStore
from edgekd.search.latency_fit import Fit, Point, Prediction
from edgekd.search.memory import MEASURED, Memory
from edgekd.search.students import Candidate, space
from edgekd.search.untrained import ShortlistContext, few_images
from edgekd.search.verdicts import (
    OPEN,
    Result,
    budgets_of,
    fits,
    next_to_measure,
    predicted_out,
    surpassed_by,
)
from edgekd.stages.before_training import check_environment
from edgekd.stages.binding import Bound, bind_recipe

_AGAIN = ("invalid", "open")


@dataclass
class Shortlist:
    """Candidates on one device, and what is known of them.

    Attributes:
        results: by a candidate's name; of those that were not looked at there is none.
        skipped: name -> why it need not be measured.
    """

    bound: Bound
    device: DeviceSpec
    folder: Path
    candidates: list[Candidate]
    results: dict[str, Result] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, list[Point]] = field(default_factory=dict)

    @cached_property
    def budgets(self) -> dict[str, dict[str, float]]:
        """Of each candidate, by its name."""
        return {one.name: budgets_of(self.bound.gate, one.target.name, self.device.name) for one in self.candidates}

    def result(self, candidate: Candidate) -> Result:
        """What became of it so far."""
        return self.results.get(candidate.name, OPEN)

    def kept(self, candidate: Candidate) -> bool | None:
        """Whether it keeps its budgets; None where that is not known."""
        return fits(self.result(candidate), self.budgets[candidate.name])

    @property
    def keeping(self) -> list[Candidate]:
        """Those that are known to keep their budgets, the best of its series first; none without budgets."""
        kept = [one for one in self.candidates if self.kept(one)]
        return sorted(kept, key=lambda one: (-(one.coco_ap or 0.0), -one.size_px, -one.facts.parameters, one.name))

    def fit(self, target: str) -> Fit:
        """Latencies of a target as far as they were measured, on this device and on others."""
        here = [
            Point(self.device.name, one.facts.gflops, one.facts.parameters, found.p90_ms)
            for one in self.candidates
            if one.target.name == target and (found := self.result(one)).status == "measured" and found.p90_ms
        ]
        return Fit([*here, *self.elsewhere.get(target, ())], self.device.name)

    def predictions(self) -> dict[str, Prediction | None]:
        """By name, of those that were not measured; never to be shown as measurements."""
        fitted = {one.target.name: self.fit(one.target.name) for one in self.candidates}
        return {
            one.name: fitted[one.target.name].predict(one.facts.gflops, one.facts.parameters)
            for one in self.candidates
            if self.result(one).status != "measured"
        }

    @property
    def exit_code(self) -> int:
        """As the README has them: an invalid latency, no candidate that keeps the budgets, or 0."""
        found = [self.result(one) for one in self.candidates]
        if any(one.status == "invalid" for one in found):
            return EXIT_CODES["invalid"]
        if not any(one.status == "measured" for one in found):
            return EXIT_CODES["inconclusive"]
        judged = {self.kept(one) for one in self.candidates if self.budgets[one.name] and self._is_measured(one)}
        if not judged or True in judged:
            return EXIT_CODES["pass"]
        return EXIT_CODES["inconclusive" if None in judged or self.undecided else "fail"]

    @property
    def undecided(self) -> list[Candidate]:
        """Those with budgets that nobody has measured, and that nothing rules out."""
        return [
            one
            for one in self.candidates
            if self.budgets[one.name] and self.result(one).status == "open" and one.name not in self.skipped
        ]

    def _is_measured(self, candidate: Candidate) -> bool:
        return self.result(candidate).status == "measured"


def shortlist(
    recipe: Path,
    device: str | None,
    folder: Path | None,
    overrides: tuple[str, ...] = (),
    *,
    everything: bool = False,
    most: int | None = None,
    turn_seconds: float = 0.0,
    measuring: bool = True,
) -> Shortlist:
    """Measure candidates until it is known which of them serve.

    Args:
        device: name or file; None: the recipe's only one, else `local`.
        folder: that keeps everything; default: `runs/shortlist-<recipe's name>`.
        everything: measure also what a prediction rules out.
        most: measure at most so many now.
        turn_seconds: how long to wait for another run that is on the device.
        measuring: False looks only at what was measured before.

    Raises:
        InputError: a faulty recipe, an empty space.
        EnvironmentFault: something is not installed, or the device failed; what was measured is kept.
    """
    return shortlist_bound(
        bind_recipe(recipe, overrides), device, folder, everything=everything, most=most, turn_seconds=turn_seconds,
        measuring=measuring,
    )  # fmt: skip


def shortlist_bound(
    bound: Bound,
    device: str | None,
    folder: Path | None,
    *,
    everything: bool = False,
    most: int | None = None,
    turn_seconds: float = 0.0,
    measuring: bool = True,
) -> Shortlist:
    """As `shortlist`, of a recipe that is bound."""
    spec = _device(bound, device)
    folder = folder or Path("runs") / f"shortlist-{bound.recipe.name}"
    with _held(folder):
        cache = folder / "data" / sha256_json(bound.data.model_dump(mode="json"))[:12]
        data = few_images(data_config.load(bound.data, cache, bound.base))
        facts = FactsStore(folder / "models.json", data.class_names, data.channels)
        found = Shortlist(bound, spec, folder, space(bound, spec, facts))
        _check_budgets(found, data.class_names)
        memory = Memory(folder / MEASURED, found, facts)
        found.results, found.elsewhere = memory.results(), memory.elsewhere()
        if measuring:
            context = ShortlistContext(bound, spec, folder, data, turn_seconds)
            _measure(found, context, memory, everything=everything, most=most)
        _rule_out(found, everything=everything)
    return found


def _measure(
    found: Shortlist, context: ShortlistContext, memory: Memory, *, everything: bool, most: int | None
) -> None:
    """One measurement at a time, the one that says most first, until the others need none."""
    waiting = [one for one in found.candidates if found.result(one).status in _AGAIN]
    if not waiting:
        return
    _check_environment(found, waiting)
    done = 0
    while waiting and (most is None or done < most):
        _rule_out(found, everything=everything)
        waiting = [one for one in waiting if one.name not in found.skipped]
        if not waiting:
            break
        candidate = _next(found, waiting)
        done += 1
        say(f"shortlist {done}: {candidate.name} on {found.device.name} (at most {len(waiting) - 1} more)")
        found.results[candidate.name] = context.measure(candidate)
        memory.keep(candidate, found.results[candidate.name])
        waiting = [one for one in waiting if one is not candidate]


def _rule_out(found: Shortlist, *, everything: bool) -> None:
    """Say of open candidates why they need not be measured, as far as that is so by now."""
    found.skipped = {}
    if everything:
        return
    predictions = found.predictions()
    measured = [
        (one, found.result(one), found.kept(one) is not False)
        for one in found.candidates
        if found.result(one).status == "measured"
    ]
    points = {one.target.name: 0 for one in found.candidates}
    for one, _, _ in measured:
        points[one.target.name] += 1
    for one in found.candidates:
        if found.result(one).status == "open":
            limit = found.budgets[one.name].get("max_p90_ms")
            why = predicted_out(one, predictions[one.name], points[one.target.name], limit, measured)
            better = surpassed_by(one, found.keeping)
            if better or why:
                found.skipped[one.name] = f"no better than {better}, which keeps its budgets" if better else str(why)


def _next(found: Shortlist, waiting: Sequence[Candidate]) -> Candidate:
    predictions = found.predictions()
    limits = {one.name: found.budgets[one.name].get("max_p90_ms") for one in waiting}
    known: dict[str, list[float]] = {}
    for one in found.candidates:
        if found.result(one).status == "measured":
            known.setdefault(one.target.name, []).append(one.facts.gflops)
    return next_to_measure(waiting, predictions, limits, known)


def _device(bound: Bound, asked: str | None) -> DeviceSpec:
    if asked is not None:
        return next((one for one in bound.devices if one.name == asked), None) or catalog.load(asked)
    if len(bound.devices) > 1:
        names = ", ".join(one.name for one in bound.devices)
        raise InputError(f"--device: {bound.where} has several devices ({names}); say which one with --device NAME")
    return bound.devices[0] if bound.devices else catalog.load("local")


def _check_budgets(found: Shortlist, class_names: Sequence[str]) -> None:
    """Refuse budgets on what is neither a candidate nor of the recipe: a typing error would be no budget at all."""
    bound = found.bound
    targets = {one.name for one in bound.targets} | {one.target.name for one in found.candidates}
    devices = {one.name for one in bound.devices} | {found.device.name}
    problems = check_names(bound.gate, sorted(targets), sorted(devices), class_names, f"{bound.where}: gate")
    if problems:
        raise InputError(*problems)


def _check_environment(found: Shortlist, waiting: Sequence[Candidate]) -> None:
    """Ask, once for all, for what makes the targets here and runs them there."""
    targets = {one.target.name: one.target for one in waiting}
    envelopes = tuple(TargetEnvelope(target=name) for name in targets)
    recipe = found.bound.recipe.model_copy(update={"export": envelopes})
    check_environment(
        replace(found.bound, recipe=recipe, targets=tuple(targets.values()), devices=(found.device,)), True
    )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep other shortlists out of a folder; the lock goes with the process."""
    make_folder(folder, "--folder")
    with disk_faults(folder):
        stream = (folder / ".lock").open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentFault(
                f"{folder}: another edgekd process works in it; wait for it, or choose another --folder"
            ) from None
        yield
