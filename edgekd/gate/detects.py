"""A model that detects nothing is no pass, whatever else the budgets say: by AP drop, gain and latency it is as good as
can be. Who wants it to pass writes `min_ap: 0`."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.gate.facts import Facts
from edgekd.gate.policy import GateConfig
from edgekd.gate.verdict import Check, Status

METRIC = "detects"


def checks(config: GateConfig, facts: Facts) -> Iterator[Check]:
    """A check for the student and for every artifact that detects nothing, or whose AP cannot be known.

    None where the budgets say how much AP must be, and where there are no budgets at all.
    """
    if config.min_ap is not None or config == GateConfig.model_validate({}):
        return
    if facts.student_ap is None or (facts.per_class and all(ap is None for ap in facts.per_class.values())):
        why = "AP is not defined: the validation split has no box to find (crowd boxes do not count)"
        yield _check("student", None, "inconclusive", f"{why}; label objects there")
        return
    measured = [("student", facts.student_ap), *((artifact.name, artifact.ap) for artifact in facts.artifacts)]
    for name, ap in measured:
        if ap == 0:
            yield _check(name, ap, "fail", "AP 0: it detects nothing; gate.min_ap, be it 0, judges AP otherwise")


def _check(subject: str, ap: float | None, status: Status, why: str) -> Check:
    return Check(METRIC, subject, ap, 0.0, ">", status, f"{METRIC}: {subject}: {why}")
