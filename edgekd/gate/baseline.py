"""What a release measured, kept as a small JSON file fit for git, and budgets against it.

Accuracy compares across machines. Latency does not: it is compared only where the environment was the same, and a
difference is a reason to look, not a verdict. `edgekd compare` gives the verdict, with both artifacts on the device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekd.atomic import read_json, sha256_json, write_json
from edgekd.errors import InputError, unknown
from edgekd.gate.verdict import Check, Status
from edgekd.measure.throughput import best
from edgekd.measure.withheld import is_unusable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_ROUNDING = 1e-9
MAX_SPREAD = 0.1  # of the processes' medians, in what is kept


class Entry(BaseModel):
    """One artifact on one device.

    Attributes:
        files: name -> sha256.
        p50_ms, p90_ms: end to end; None where the measurement was not valid.
        images_per_second: of the fastest valid load; None where there was none.
        spread: how far the processes' medians lay apart, relative to the least.
        fingerprint: of the environment in which the latency was measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    device: str | None
    files: dict[str, str]
    size_bytes: int | None
    ap: float | None
    ap50: float | None
    per_class: dict[str, float | None] = Field(default_factory=dict)
    p50_ms: float | None = None
    p90_ms: float | None = None
    peak_memory_mb: float | None = None
    images_per_second: float | None = None
    spread: float | None = None
    fingerprint: str | None = None

    @property
    def name(self) -> str:
        """As budgets name it."""
        return f"{self.target}@{self.device}"


class Baseline(BaseModel):
    """A release.

    Attributes:
        saved: UTC, as 2026-01-31T12:00:00Z.
        data: content hash of the validation split.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["edgekd.baseline/1"] = "edgekd.baseline/1"
    name: str
    saved: str
    recipe: str
    edgekd: str
    data: str | None
    student_ap: float | None
    artifacts: tuple[Entry, ...]


def unfit(artifact: Mapping[str, Any]) -> Iterator[str]:
    """Why figures of time must not be kept for later comparisons; an artifact that was not timed has none.

    Args:
        artifact: a row of `report.json`'s artifacts.
    """
    name = f"{artifact['target']}@{artifact['device']}"
    measured = [(name, "latency", artifact, (artifact.get("spread") or {}).get("p50"))]
    measured += [(name, _load(entry), entry, entry.get("spread")) for entry in artifact.get("throughput") or []]
    for subject, what, one, apart in measured:
        if is_unusable(one):
            yield f"{subject}: the {what} is not valid: {'; '.join(one['invalid_reasons'])}"
        elif apart is not None and apart > MAX_SPREAD:
            yield f"{subject}: {what}: the processes differ by {apart:.1%}, at most {MAX_SPREAD:.0%} is allowed"


def entry(artifact: Mapping[str, Any], environment: Mapping[str, Any] | None) -> Entry:
    """What is kept of one artifact.

    Args:
        artifact: a row of `report.json`'s artifacts.
        environment: in which it was timed; None where it was not.
    """
    latency = artifact["latency_ms"] if artifact.get("valid") else {}
    return Entry(
        target=artifact["target"], device=artifact["device"], files=artifact["files"], ap=artifact["ap"],
        size_bytes=artifact["size_bytes"], ap50=artifact["ap50"], per_class=artifact["per_class"] or {},
        p50_ms=latency.get("p50"), p90_ms=latency.get("p90"), peak_memory_mb=artifact.get("peak_memory_mb"),
        images_per_second=(best(artifact.get("throughput") or []) or {}).get("images_per_second"),
        spread=(artifact.get("spread") or {}).get("p50"),
        fingerprint=fingerprint(environment) if environment else None,
    )  # fmt: skip


def _load(entry: Mapping[str, Any]) -> str:
    return f"throughput of {entry['streams']} streams, batch {entry['batch']}"


def fingerprint(environment: Mapping[str, Any]) -> str:
    """Hash of what a latency depends on beside the artifact: machine, system, runtime, threads, input, governors."""
    facts = environment.get("platform") or {}
    platform = {key: facts.get(key) for key in ("machine", "system", "board", "cpu_model", "cores_allowed")}
    own = {key: environment.get(key) for key in ("runtime", "threads", "precision", "input", "settings", "preprocess")}
    governors = (environment.get("telemetry") or {}).get("governors")
    return sha256_json({**own, "platform": platform, "governors": governors})[:16]


def save(store: Path, baseline: Baseline, *, replace: bool = False) -> Path:
    """Write `<name>.json` into the store.

    Raises:
        InputError: not a name, or one that is taken.
    """
    path = _path(store, baseline.name)
    if path.exists() and not replace:
        raise InputError(f"{path}: is there already; choose another name, or replace it with --replace")
    write_json(path, baseline.model_dump(mode="json"))
    return path


def load(store: Path, name: str) -> Baseline:
    """Read one.

    Raises:
        InputError: unknown, or not a baseline.
    """
    path = _path(store, name)
    if not path.is_file():
        raise InputError(f"{store}: {unknown('baseline', name, names(store))}")
    return _read(path)


def names(store: Path) -> list[str]:
    """Of all baselines in a store."""
    return sorted(path.stem for path in store.glob("*.json")) if store.is_dir() else []


def load_all(store: Path) -> list[Baseline]:
    """Every baseline of a store, oldest first."""
    return sorted((_read(_path(store, name)) for name in names(store)), key=lambda one: (one.saved, one.name))


def checks(baseline: Baseline, now: Baseline, max_ap_loss: float | None, max_slowdown: float | None) -> Iterator[Check]:
    """Budgets of every artifact that both have; one that vanished is a check of its own.

    Args:
        baseline: the release.
        now: the run to judge.
        max_ap_loss: AP that may be lost against it.
        max_slowdown: of the median latency, as a fraction.
    """
    found = {entry.name: entry for entry in now.artifacts}
    for old in baseline.artifacts:
        new = found.get(old.name)
        if max_ap_loss is not None:
            yield _accuracy(old, new, max_ap_loss, baseline, same_data=baseline.data == now.data)
        if max_slowdown is not None:
            yield _latency(old, new, max_slowdown, baseline)


def _accuracy(old: Entry, new: Entry | None, limit: float, baseline: Baseline, *, same_data: bool) -> Check:
    metric = "against.max_ap_loss"
    if new is None or new.ap is None or old.ap is None:
        return _check(metric, old, None, limit, "inconclusive", f"no AP in {'this run' if old.ap else baseline.name}")
    if not same_data:
        why = f"{baseline.name} was measured on other validation images; save a new baseline"
        return _check(metric, old, None, limit, "inconclusive", why)
    loss = old.ap - new.ap
    status: Status = "pass" if loss <= limit + _ROUNDING else "fail"
    return _check(metric, old, loss, limit, status, f"AP {new.ap:.4f}, {baseline.name} had {old.ap:.4f}")


def _latency(old: Entry, new: Entry | None, limit: float, baseline: Baseline) -> Check:
    metric = "against.max_slowdown"
    if new is None or new.p50_ms is None or old.p50_ms is None:
        missing = "this run" if old.p50_ms else baseline.name
        return _check(metric, old, None, limit, "inconclusive", f"no valid latency in {missing}")
    if new.fingerprint != old.fingerprint:
        why = f"{baseline.name} was timed in another environment; compare the artifacts now with edgekd compare"
        return _check(metric, old, None, limit, "inconclusive", why)
    slowdown = new.p50_ms / old.p50_ms - 1
    shown = f"median {new.p50_ms:.3g} ms, {baseline.name} had {old.p50_ms:.3g} ms ({100 * slowdown:+.1f} %)"
    if slowdown <= limit + _ROUNDING:
        return _check(metric, old, slowdown, limit, "pass", shown)
    why = f"{shown}; taken at different times, so no proof: confirm it with edgekd compare"
    return _check(metric, old, slowdown, limit, "inconclusive", why)


def _check(metric: str, entry: Entry, value: float | None, limit: float, status: Status, why: str) -> Check:
    return Check(metric, entry.name, value, limit, "<=", status, f"{metric}: {entry.name}: {why}")


def _path(store: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise InputError(f"baseline name '{name}': use letters, digits and . _ + -, beginning with a letter or digit")
    return store / f"{name}.json"


def _read(path: Path) -> Baseline:
    try:
        return Baseline.model_validate(read_json(path))
    except (ValidationError, ValueError) as error:
        raise InputError(f"{path}: not a baseline of edgekd ({str(error).splitlines()[0]}); save it again") from error
