"""Judge what was measured by the budgets of a recipe. Every budget gives at least one check; nothing is passed over.

The verdict is that of the worst check: fail, then invalid, then inconclusive, then pass. A budget that is broken by a
valid measurement stays broken whatever else could not be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edgekd.gate.facts import Facts
from edgekd.gate.policy import GateConfig
from edgekd.gate.spread import weighed
from edgekd.measure.withheld import ANOTHER_MODEL, EMULATED

SCHEMA = "edgekd.verdict/2"
Status = Literal["pass", "fail", "inconclusive", "invalid"]
_WORST_FIRST: tuple[Status, ...] = ("fail", "invalid", "inconclusive", "pass")
EXIT_CODES: dict[Status, int] = {"pass": 0, "fail": 1, "inconclusive": 3, "invalid": 4}
NOTHING_JUDGED = "nothing judged: no budget stands under gate:"
_ROUNDING = 1e-9  # a budget met exactly is met, whatever floating-point subtraction makes of it


@dataclass(frozen=True)
class Check:
    """One budget applied to one subject.

    Attributes:
        metric: key of the budget, e.g. `max_p90_ms`.
        subject: `student`, `target@device`, for a class with `: class` behind it.
        value: what was measured, in the metric's unit.
        limit: the budget.
        op: how value must compare with limit.
        status: outcome.
        detail: the outcome in words, with value, limit and distance.
    """

    metric: str
    subject: str
    value: float | None
    limit: float
    op: Literal[">=", "<=", ">"]
    status: Status
    detail: str


@dataclass(frozen=True)
class Verdict:
    """The outcome of all checks.

    Attributes:
        status: of the worst check.
        reasons: details of every check that did not pass, worst first.
        checks: all, in the order of the budgets.
    """

    status: Status
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive, 4 invalid (the environment kept the device from being measured)."""
        return EXIT_CODES[self.status]

    def as_json(self) -> dict[str, Any]:
        """Content of `verdict.json`."""
        return {
            "schema": SCHEMA,
            "status": self.status,
            "reasons": list(self.reasons),
            "checks": [asdict(check) for check in self.checks],
        }


def judge(config: GateConfig, facts: Facts, more: Iterable[Check] = ()) -> Verdict:
    """Apply every budget to what was measured; `more` are checks that were made elsewhere."""
    return conclude((*(check for rule in _RULES for check in rule(config, facts)), *more))


def conclude(checks: tuple[Check, ...]) -> Verdict:
    """The verdict of the worst check. Without any, nothing was judged, and that is no pass."""
    if not checks:
        return Verdict("inconclusive", (NOTHING_JUDGED,), ())
    order = {status: rank for rank, status in enumerate(_WORST_FIRST)}
    worst_first = sorted(checks, key=lambda check: order[check.status])
    reasons = tuple(check.detail for check in worst_first if check.status != "pass")
    return Verdict(worst_first[0].status, reasons, checks)


@dataclass(frozen=True)
class _Budget:
    """One limit, and how to speak of it. `quantity` is what is compared, `missing` why it may be absent."""

    metric: str
    quantity: str
    op: Literal[">=", "<="]
    limit: float
    missing: str
    unit: str = ""

    def check(self, subject: str, value: float | None, missing: str | None = None) -> Check:
        if value is None:
            return self.record(subject, None, "inconclusive", missing or self.missing)
        slack = value - self.limit if self.op == ">=" else self.limit - value
        status: Status = "pass" if slack >= -_ROUNDING else "fail"
        outcome = "within the budget by" if status == "pass" else "missed by"
        detail = f"{self.quantity} {self._show(value)}, must be {self.op} {self._show(self.limit)}: {outcome}"
        return self.record(subject, value, status, f"{detail} {self._show(abs(slack))}")

    def record(self, subject: str, value: float | None, status: Status, why: str) -> Check:
        return Check(self.metric, subject, value, self.limit, self.op, status, f"{self.metric}: {subject}: {why}")

    def _show(self, number: float) -> str:
        return f"{number:.4g} {self.unit}".rstrip()


def _least_ap(config: GateConfig, facts: Facts) -> list[Check]:
    if config.min_ap is None:
        return []
    budget = _Budget("min_ap", "AP", ">=", config.min_ap, "it was not validated; run edgekd validate")
    return [
        budget.check("student", facts.student_ap),
        *(budget.check(artifact.name, artifact.ap, artifact.no_ap) for artifact in facts.artifacts),
    ]


def _per_artifact(config: GateConfig, facts: Facts) -> list[Check]:
    measured = {artifact.name: artifact for artifact in facts.artifacts}
    checks = []
    for metric, (quantity, unit, missing, is_profiled) in _QUANTITIES.items():
        for name, limit in getattr(config, metric).items():
            budget = _Budget(metric, quantity, "<=", limit, missing, unit)
            artifact = measured.get(name)
            key = metric.removeprefix("max_")
            value = getattr(artifact, key) if artifact else None
            if artifact is not None and artifact.inference_by and artifact.latency_valid and is_profiled:
                check = _of_inference_alone(budget, name, value, artifact.inference_by)
            elif artifact is None or artifact.latency_valid or not is_profiled:
                check = budget.check(name, value)
            else:
                why = "; ".join(artifact.invalid_reasons) or "no reason given"
                check = budget.record(name, None, "invalid", f"the profile is invalid ({why}); {_remedy(why)}")
            if artifact is not None and key in _OF_TIME:
                check = weighed(check, artifact.spread.get(key), artifact.notes)
            checks.append(check)
    return checks


def _remedy(why: str) -> str:
    found = (remedy for beginning, remedy in _REMEDIES.items() if why.startswith(beginning))
    return next(found, "profile it again on a quiet device")


def _of_inference_alone(budget: _Budget, name: str, value: float | None, tool: str) -> Check:
    """A program that runs inference alone can show that a budget of the whole way is broken, never that it is kept."""
    if value is None:
        why = ": it keeps no raw samples, or took too few" if budget.metric == "max_p90_ms" else ""
        return budget.record(name, None, "inconclusive", f"{tool} gives no {budget.quantity}{why}")
    found = budget.check(name, value)
    if found.status == "fail":
        return replace(found, detail=f"{found.detail} by inference alone ({tool}), without pre- and post-processing")
    within = f"{budget.quantity} of inference alone is {value:.4g} {budget.unit} ({tool}), within {budget.limit:.4g}"
    why = f"{within}, but the budget is of the whole way from frame to detections, which only the agent measures"
    return budget.record(name, value, "inconclusive", why)


# By how the first reason of an invalid profile begins.
_REMEDIES = {
    EMULATED: "profile it on the hardware",
    ANOTHER_MODEL: "export it in a higher precision, or update the device's runtime",
}
_OF_TIME = ("p90_ms", "energy_mj")
# Metric -> what is compared, its unit, why it may be absent, and whether an invalid profile makes it useless.
_QUANTITIES = {
    "max_p90_ms": (
        "p90", "ms", "no p90 was measured, or of too few samples (it needs at least 64); run edgekd profile", True,
    ),
    "max_memory_mb": ("peak memory", "MB", "it was not profiled, or the device cannot tell; run edgekd profile", True),
    "max_energy_mj": ("energy per inference", "mJ", "the device does not measure power, or was not profiled", True),
    "max_size_mb": ("size", "MB", "it was not exported; run edgekd export", False),
}  # fmt: skip


def _throughput(config: GateConfig, facts: Facts) -> list[Check]:
    measured = {artifact.name: artifact for artifact in facts.artifacts}
    missing = "no throughput was measured; name loads in profile.throughput, and run edgekd profile"
    checks = []
    for name, limit in config.min_images_per_second.items():
        budget = _Budget("min_images_per_second", "throughput", ">=", limit, missing, "images/s")
        artifact = measured.get(name)
        if artifact and artifact.images_per_second is None and artifact.load_problems:
            why = "; ".join(artifact.load_problems)
            checks.append(budget.record(name, None, "invalid", f"no load was measured validly ({why}); {_remedy(why)}"))
        else:
            check = budget.check(name, artifact.images_per_second if artifact else None)
            spread = artifact.spread.get("images_per_second") if artifact else None
            checks.append(weighed(check, spread, artifact.load_notes if artifact else ()))
    return checks


def _drop(config: GateConfig, facts: Facts) -> list[Check]:
    if config.max_ap_drop is None:
        return []
    missing = "the student or the artifact was not validated; run edgekd validate"
    budget = _Budget("max_ap_drop", "AP below the student's", "<=", config.max_ap_drop, missing)
    if not facts.artifacts:
        return [budget.record("artifacts", None, "inconclusive", "nothing was exported; name targets in export:")]
    return [budget.check(one.name, _difference(facts.student_ap, one.ap), one.no_ap) for one in facts.artifacts]


def _gain(config: GateConfig, facts: Facts) -> list[Check]:
    if config.min_gain is None:
        return []
    no_control = "there is no control to compare with; set control: true"
    missing = no_control if facts.control_ap is None else "the student was not validated; run edgekd validate"
    budget = _Budget("min_gain", "AP above the control's", ">=", config.min_gain, missing)
    if facts.gain is None or facts.gain["low"] is None:
        return [budget.check("student", _difference(facts.student_ap, facts.control_ap))]
    of = f"lower end of its {100 * facts.gain['level']:.0f} % interval over {len(facts.gain['differences'])} seeds"
    budget = replace(budget, quantity=f"AP above the control's, {of}")
    return [budget.check("student", facts.gain["low"])]


def _classes(config: GateConfig, facts: Facts) -> list[Check]:
    sources: list[tuple[str, Mapping[str, float | None], str | None]] = [("student", facts.per_class, None)]
    sources += [(one.name, one.per_class, one.no_ap) for one in facts.artifacts if one.per_class is not None]
    missing = "it was not validated, or the split has no ground truth of the class"
    checks = []
    for name, limit in config.min_ap_per_class.items():
        budget = _Budget("min_ap_per_class", "AP", ">=", limit, missing)
        checks += [budget.check(f"{subject}: {name}", found.get(name), no_ap) for subject, found, no_ap in sources]
    return checks


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


_RULES: tuple[Callable[[GateConfig, Facts], list[Check]], ...] = (
    _least_ap, _per_artifact, _throughput, _drop, _gain, _classes,
)  # fmt: skip
