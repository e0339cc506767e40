"""Watches the loss terms: a report over the first steps, and every term's value over time.

A distiller that is silently inactive is the worst bug of this field, so the first steps state per term its value, its
gradient norm at the student's taps and its share of the total, and a term without gradient ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from torch import Tensor

from edgekd.distill.terms import DETECTION, SHARE_LIMITS
from edgekd.errors import InputError
from edgekd.training.weighting import gradient_norm

REPORT_STEPS = 3
PACED_STEPS = 10  # in which the share of matching is taken


@dataclass(frozen=True)
class Term:
    """One loss term of one step.

    Attributes:
        name: e.g. `logit.class`, or `detection` for the student's own loss.
        value: scalar, unweighted.
        weight: the recipe's, or this step's where it is automatic.
        factor: the schedule's factor at this step, 0..1.
        scale: what the family multiplies its losses with (the batch size, or 1).
        auxiliary: it trains a method's own modules alone, and must not reach the student.
        ended: its method is over; it stands here for the log's sake.
    """

    name: str
    value: Tensor
    weight: float | Tensor = 1.0
    factor: float = 1.0
    scale: float = 1.0
    auxiliary: bool = False
    ended: bool = False

    @property
    def weighted(self) -> Tensor:
        """What enters the total."""
        return self.value * (self.weight * self.factor * self.scale)


@dataclass
class FirstStep:
    """One term in one of the first steps, as it enters the loss.

    Attributes:
        value: unweighted.
        norm: of its gradient at the student.
        share: of the total, as if no schedule had begun.
    """

    term: str
    value: float
    weight: float
    norm: float
    share: float


@dataclass
class Balance:
    """Collects terms; `rows` becomes `terms.csv`, `report()` becomes `first_steps.json`.

    Attributes:
        paces: seconds of matching and of the whole step, of a few steps behind the first ones, which are slower.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    first: list[FirstStep] = field(default_factory=list)
    paces: list[tuple[float, float]] = field(default_factory=list)
    _pending: list[tuple[int, float, list[Term]]] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """Everything noted so far, as plain values; waits for the device as `flush` does."""
        self.flush()
        return {"rows": self.rows, "first": [asdict(step) for step in self.first], "paces": self.paces}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Balance:
        """The one whose `state` this was."""
        paces = [(matching, step) for matching, step in state.get("paces", ())]
        return cls(rows=state["rows"], first=[FirstStep(**step) for step in state["first"]], paces=paces)

    def observe(self, step: int, epoch: float, terms: Sequence[Term], anchors: Mapping[str, Tensor]) -> None:
        """Note one step.

        Args:
            terms: the detection loss first, then every distillation term.
            anchors: the student's tensors at which gradients are measured (taps and head outputs).

        Raises:
            InputError: in the first steps, a term has no gradient at any anchor.
        """
        if step < REPORT_STEPS:
            self._first_step(terms, anchors)
        self._pending.append((step, epoch, [replace(term, value=term.value.detach()) for term in terms]))

    def flush(self) -> None:
        """Move noted values to `rows`; one device synchronisation per call, so call it once an epoch."""
        for step, epoch, terms in self._pending:
            weighted = [float(term.weighted) for term in terms]
            total = sum(value for value, term in zip(weighted, terms, strict=True) if not term.auxiliary)
            self.rows += [
                {
                    "step": step, "epoch": round(epoch, 4), "term": term.name, "value": float(term.value),
                    "weight": float(term.weight) * term.factor, "weighted": value,
                    "share": value / total if total else 0.0,
                }
                for term, value in zip(terms, weighted, strict=True)
            ]  # fmt: skip
        self._pending.clear()

    def report(self) -> dict[str, Any]:
        """Means over the first steps, with a warning where a share is out of bounds."""
        by_term: dict[str, list[FirstStep]] = {}
        for step in self.first:
            by_term.setdefault(step.term, []).append(step)
        terms = []
        for name, steps in by_term.items():
            share = _mean([step.share for step in steps])
            terms.append({
                "term": name, "value": _mean([step.value for step in steps]), "weight": steps[-1].weight,
                "gradient_norm": _mean([step.norm for step in steps]), "share": share, "warning": _warning(name, share),
            })  # fmt: skip
        return {"steps": len(by_term.get(DETECTION, ())), "terms": terms, **self._matching()}

    def pace(self, step: int, matching_s: float, step_s: float) -> None:
        """Note how long matching took in a step, and the step; only steps behind the first ones are kept."""
        if matching_s > 0 and REPORT_STEPS < step <= REPORT_STEPS + PACED_STEPS:
            self.paces.append((matching_s, step_s))

    def _matching(self) -> dict[str, Any]:
        """Medians; nothing where no method matches."""
        if not self.paces:
            return {}
        ms, step_ms = (1000 * median(values) for values in zip(*self.paces, strict=True))
        share = median(matching / step for matching, step in self.paces)
        return {"matching": {"steps": len(self.paces), "ms": ms, "step_ms": step_ms, "share_of_step": share}}

    def _first_step(self, terms: Sequence[Term], anchors: Mapping[str, Tensor]) -> None:
        full = {term.name: float(term.value.detach()) * float(term.weight) * term.scale for term in terms}  # no warm-up
        total = sum(full[term.name] for term in terms if not term.auxiliary)
        for term in (term for term in terms if not term.ended):
            norm = gradient_norm(term.value, list(anchors.values()))
            if term.auxiliary:
                if norm is not None:
                    raise InputError(
                        f"distill: term '{term.name}' trains the method's own modules, but it reaches the student "
                        f"({', '.join(anchors)}); detach the student's outputs in it"
                    )
                continue
            if norm is None:
                raise InputError(
                    f"distill: term '{term.name}' has no gradient at the student ({', '.join(anchors)}); "
                    f"a distiller must not detach the student's outputs"
                )
            self.first.append(
                FirstStep(
                    term=term.name,
                    value=float(term.value.detach()),
                    weight=float(term.weight),
                    norm=float(norm) * float(term.weight) * term.scale,
                    share=full[term.name] / total if total else 0.0,
                )
            )


def _warning(name: str, share: float) -> str | None:
    if name == DETECTION:
        return None
    if share < SHARE_LIMITS[0]:
        return f"{share:.2%} of the total loss (under 1 %): the method hardly acts; raise its weight"
    if share > SHARE_LIMITS[1]:
        return f"{share:.0%} of the total loss (over 50 %): it drowns the detection loss; lower its weight"
    return None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
