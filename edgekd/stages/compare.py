"""`edgekd compare`: is a candidate slower or less accurate than its reference, on one device, now?

Speed: both in one process, interleaved, in as many fresh processes as the verdict needs. Accuracy: both on the same
images on the same device. Finished processes are kept in the output folder, and the same command goes on after them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekd.agent.protocol import encode
from edgekd.atomic import read_json, sha256_json, write_bytes, write_json
from edgekd.devices import catalog, run_agent, run_compare
from edgekd.devices.contract import Device, DeviceSpec
from edgekd.devices.patience import Patience
from edgekd.devices.run_compare import Event, Rounds
from edgekd.errors import EnvironmentFault, InputError
from edgekd.gate import non_inferiority
from edgekd.gate.comparison import LOOKS, Decision, Plan, holm, look, too_slow
from edgekd.gate.verdict import Check, Verdict, conclude
from edgekd.measure import contention, throttling
from edgekd.measure.bootstrap import Difference, difference
from edgekd.measure.contention import MAX_WAITED, Contention, contention_of
from edgekd.measure.telemetry import telemetry_of
from edgekd.measure.throttling import Conditions
from edgekd.progress import progress, say
from edgekd.stages.compared_artifact import Subject, require_comparable
from edgekd.types import Detections

SCHEMA = "edgekd.comparison/1"
_LOWEST_SCORE, _MAX_DETECTIONS, _IOU = 0.001, 300, 0.7


@dataclass(frozen=True)
class Rules:
    """What is asked.

    Attributes:
        max_slowdown: of the end-to-end latency, as a fraction.
        max_ap_loss: AP that may be lost.
        error: probability of a wrong verdict, over both metrics and all looks.
        looks: see `Plan`.
        accuracy: whether to measure AP at all.
        seed: of the order of the blocks, and of the bootstrap.
    """

    max_slowdown: float = 0.01
    max_ap_loss: float = 0.005
    error: float = 0.01
    looks: tuple[int, ...] = LOOKS
    accuracy: bool = True
    seed: int = 0
    rounds: Rounds = field(default_factory=Rounds)

    @property
    def plan(self) -> Plan:
        """For the latency, whose share of the error is half where accuracy is judged as well (Bonferroni)."""
        return Plan(self.max_slowdown, self.looks, self.error / (2 if self.accuracy else 1))


def compare(
    reference: Subject,
    candidate: Subject,
    device_name: str,
    rules: Rules,
    out: Path,
    *,
    turn_seconds: float = 0.0,
    quiet_seconds: float = 0.0,
) -> Verdict:
    """Measure and judge; writes `comparison.json` and the raw events of each process into `out`.

    Args:
        turn_seconds: how long to wait for another run that is on the device.
        quiet_seconds: how long all processes together may wait for it to be quiet.

    Raises:
        InputError: the two cannot be compared, or not there.
        EnvironmentFault: the device failed; what was measured is kept.
    """
    require_comparable(reference, candidate)
    spec = catalog.load(device_name)
    _require_agent(spec)
    name = f"{candidate.artifact.sidecar.target}@{spec.name}"
    found: Difference | None = None
    patience = Patience(f"device {spec.name}", quiet_seconds)
    shares: list[Contention] = []
    with catalog.open_device(spec, turn_seconds) as device:
        _require_hardware(device)
        if rules.accuracy:
            found = _accuracy(device, reference, candidate, rules)
        candidates, copies, decision, faults = [], [], None, set[str]()
        conditions = Conditions(stay_below_c=spec.stay_below_c, power_mode=spec.power_mode)
        for events in _processes(device, reference, candidate, rules, out, patience):
            shares.append(contention_of(events))
            faults |= set(throttling.judge(telemetry_of(events), conditions).invalid_reasons)
            ratios = run_compare.log_ratios(events)
            candidates.append(ratios["candidate"])
            copies.append(ratios["copy"])
            if len(candidates) in rules.looks:
                decision = look(rules.plan, candidates, copies)
                say(f"after {len(candidates)} processes: {decision.reason}")
                if decision.status:
                    break
    assert decision is not None
    if faults:
        decision = replace(decision, status="invalid", reason="; ".join(sorted(faults)))
    else:
        decision = _in_view_of(decision, contention.judge(shares, MAX_WAITED)[0])
    values = {"max_slowdown": min(1.0, too_slow(rules.plan, candidates) * len(rules.looks))}
    if found:
        values["max_ap_loss"] = found.p_value(rules.max_ap_loss)
    verdict = conclude(tuple(_checks(name, rules, decision, found, holm(values, rules.error))))
    write_json(out / "comparison.json", {
        "schema": SCHEMA, "device": spec.name, "rules": asdict(rules), "p_values": values,
        "reference": _identity(reference), "candidate": _identity(candidate),
        "latency": {"candidate": asdict(decision.candidate), "copy": asdict(decision.control)},
        "contention": [share.as_json() for share in shares],
        "accuracy": asdict(found.interval(1 - rules.error)) if found else None,
        "verdict": verdict.as_json(),
    })  # fmt: skip
    return verdict


def _in_view_of(decision: Decision, busy: Sequence[str]) -> Decision:
    """Load hits all in turn, so what was decided stands; what could not be, might be on a quiet machine."""
    if not busy:
        return decision
    if decision.status == "inconclusive":
        return replace(decision, status="invalid", reason=f"{decision.reason}; {busy[0]}")
    return replace(decision, reason=f"{decision.reason} (note: {busy[0]})")


def _require_agent(spec: DeviceSpec) -> None:
    """Before anything is connected to."""
    if not spec.has_agent:
        raise InputError(
            f"device {spec.name}: has no agent (tools without `python`), and the agent alone runs two artifacts"
            " interleaved; 'edgekd profile' times each by itself there"
        )


def _require_hardware(device: Device) -> None:
    if found := run_agent.emulation(device):
        raise EnvironmentFault(
            f"device {device.spec.name}: emulated: {found}; latency means nothing there: compare on the hardware"
        )


def _checks(
    name: str, rules: Rules, decision: Decision, found: Difference | None, rejected: dict[str, bool]
) -> Iterator[Check]:
    """A check per metric. What its own share of the error left open fails if Holm's procedure rejects it."""

    def check(metric: str, value: float, limit: float, status: Any, why: str) -> Check:
        failed = status == "inconclusive" and rejected[metric]
        return Check(metric, name, value, limit, "<=", "fail" if failed else status, f"{metric}: {name}: {why}")

    slowdown = decision.candidate.estimate - 1
    yield check("max_slowdown", slowdown, rules.max_slowdown, decision.status, decision.reason)
    if found:
        status, why = non_inferiority.judge(found.interval(1 - rules.error), rules.max_ap_loss)
        if status == "pass" and found.candidate == 0:  # as good as a reference that detects nothing, or next to nothing
            status, why = "inconclusive", f"{why}; but its AP is 0: it detects nothing, and that is no pass"
        yield check("max_ap_loss", -found.estimate, rules.max_ap_loss, status, why)


def _processes(
    device: Device, reference: Subject, candidate: Subject, rules: Rules, out: Path, patience: Patience
) -> Iterator[list[Event]]:
    """Events per process: those of earlier tries of this very comparison first."""
    key = sha256_json({
        "device": device.spec.model_dump(mode="json"), "rounds": asdict(rules.rounds), "seed": rules.seed,
        "sides": [[one.artifact.sidecar.files, one.pack.sha256] for one in (reference, candidate)],
    })  # fmt: skip
    kept = out / "processes.json"
    if not kept.is_file() or read_json(kept) != key:
        for path in out.glob("process-*.jsonl"):
            path.unlink()
        write_json(kept, key)
    paths = [out / f"process-{number:02d}.jsonl" for number in range(1, rules.looks[-1] + 1)]
    done = sum(path.is_file() for path in paths)
    with progress(f"compare on {device.spec.name}", len(paths), done=done) as advance:
        for number, path in enumerate(paths, start=1):
            is_new = not path.is_file()
            if is_new:
                events = run_compare.one_process(
                    device,
                    reference.side,
                    candidate.side,
                    rounds=rules.rounds,
                    seed=rules.seed + number,
                    patience=patience,
                )
                write_bytes(path, b"".join(encode(event) for event in events))
            advance(int(is_new))
            yield [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _accuracy(device: Device, reference: Subject, candidate: Subject, rules: Rules) -> Difference:
    found = [_detections(device, one) for one in (reference, candidate)]
    names = reference.artifact.sidecar.class_names
    return difference(reference.truth, found[0], found[1], names, seed=rules.seed, title="accuracy")


def _detections(device: Device, one: Subject) -> dict[int, Detections]:
    prediction = run_agent.predict(
        device, one.artifact.folder, one.pack.npy_path, conf=_LOWEST_SCORE, iou=_IOU, max_det=_MAX_DETECTIONS
    )
    return {
        image.image_id: Detections(one.pack.restore(index, each.boxes_px), each.scores, each.class_ids)
        for index, (image, each) in enumerate(zip(one.pack.images, prediction.detections, strict=True))
    }


def _identity(one: Subject) -> dict[str, Any]:
    sidecar = one.artifact.sidecar
    size_bytes = sum((one.artifact.folder / name).stat().st_size for name in sidecar.files)
    return {"target": sidecar.target, "files": sidecar.files, "size_bytes": size_bytes}
