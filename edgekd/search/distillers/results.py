"""What a search found: `report.json` for programs, `report.html` for people, `best.yaml` as a preset for recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgekd.atomic import write_json, write_text
from edgekd.distill.searched.options import Kind
from edgekd.recipe.yaml_text import dump
from edgekd.report.search import page
from edgekd.search.distillers import errors
from edgekd.search.distillers.candidates import CONTROL, Candidate, entries_of, in_words
from edgekd.search.distillers.finals import Finals, winner
from edgekd.search.distillers.noise import Noise
from edgekd.search.distillers.proxy import Proxy
from edgekd.search.distillers.space import Space
from edgekd.search.distillers.study import Study, Tried, twin
from edgekd.search.distillers.trials import Runner
from edgekd.stages.context import Context

SCHEMA = "edgekd.search/1"
REPORT, PAGE, BEST = "report.json", "report.html", "best.yaml"


def best_of(tried: Sequence[Tried]) -> Tried | None:
    """The trial of the highest score, the first of equal ones; None where none came to its end."""
    complete = [one for one in tried if one.score is not None]
    return max(complete, key=lambda one: (one.score, -one.number)) if complete else None


def tied(tried: Sequence[Tried], best: Tried, deviation: float | None) -> list[Tried]:
    """Other candidates whose scores are within the noise of the best; each once."""
    if deviation is None or best.score is None:
        return []
    near = [one for one in tried if one.score is not None and abs(best.score - one.score) <= deviation]
    first = [one for one in near if twin(one.candidate, near) is one]
    return [one for one in first if one.candidate != best.candidate]


@dataclass(frozen=True)
class Results:
    """A search that is over.

    Attributes:
        claims: AP50 that each kind of knowledge might regain, by the errors.
        why: it is over.
    """

    context: Context
    space: Space
    proxy: Proxy
    study: Study
    noise: Noise
    finals: Finals | None
    order: Sequence[Kind]
    claims: Mapping[Kind, float]
    errors: Mapping[str, Any]
    identity: dict[str, Any]
    why: str

    def write(self, runner: Runner) -> dict[str, Any]:
        """Train the best candidate once more for its errors, and write all files."""
        tried = self.study.finished()
        best = (winner(tried, self.finals) if self.finals else None) or best_of(tried)
        after = errors.after(self.context, runner, best.candidate) if best else None
        report = self.as_json(tried, best, after)
        folder = self.context.path
        write_json(folder / REPORT, report)
        write_text(folder / PAGE, page(report))
        if best:
            write_text(folder / BEST, preset(best.candidate, report))
        return report

    def as_json(self, tried: Sequence[Tried], best: Tried | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """The content of `report.json`."""
        control, search = twin(CONTROL, tried), self.context.bound.recipe.search
        return {
            "schema": SCHEMA,
            "recipe": self.context.bound.recipe.name,
            "ended": self.why,
            "strategy": search.strategy, "sampler": search.sampler, "pruner": search.pruner, "order_by": search.order,
            "space": {
                "entries": self.space.entries, "candidates": self.space.candidates, "kinds": self.space.as_json(),
                "left_out": dict(self.space.left_out),
            },
            "proxy": {**asdict(self.proxy.extent), "steps": self.proxy.extent.steps, "size_px": self.proxy.size_px},
            "noise": asdict(self.noise),
            "order": list(self.order), "claims": dict(self.claims),
            "steps": sum(one.outcome.steps for one in tried),
            "control": control.score if control else None,
            "best": {**_row(best), "gain": self._gain(best, control)} if best else None,
            "tied": [one.number for one in tied(tried, best, self.noise.deviation)] if best else [],
            "finals": asdict(self.finals) if self.finals else None,
            "importance": self.study.importance(),
            "errors": {**self.errors, "after": after},
            "trials": [_row(one) for one in tried],
        }  # fmt: skip

    def _gain(self, best: Tried, control: Tried | None) -> float | None:
        """AP over the control: of the finals, else of its trial."""
        entered = self.finals.finalists if self.finals else ()
        final = next((one.gain for one in entered if one.number == best.number), None)
        if final is not None or control is None or control.score is None or best.score is None:
            return final
        return best.score - control.score


def preset(candidate: Candidate, report: Mapping[str, Any]) -> str:
    """YAML of a preset: `distill: S/best.yaml` in a recipe stands for it."""
    gain = report["best"]["gain"]
    over = "" if gain is None else f": {gain:+.3f} AP over the control on the proxy"
    about = f"found by edgekd search for {report['recipe']}{over}"
    return dump({"about": about, "distill": entries_of(candidate)})


def _row(tried: Tried) -> dict[str, Any]:
    outcome = tried.outcome
    return {
        "number": tried.number, "stage": tried.stage, "candidate": in_words(tried.candidate),
        "distill": entries_of(tried.candidate), "status": outcome.status, "score": outcome.score,
        "values": outcome.values, "why": outcome.why, "steps": outcome.steps,
    }  # fmt: skip
