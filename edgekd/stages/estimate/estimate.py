"""The estimate: of `edgekd check`, and of a run that begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekd import ranks
from edgekd.atomic import read_json, sha256_json, write_json
from edgekd.cores import usable_cores
from edgekd.forecast import Forecast, Part
from edgekd.pace import in_words
from edgekd.progress import say
from edgekd.stages.context import Context
from edgekd.stages.estimate.former import former_seconds
from edgekd.stages.estimate.memory import gpu_total_bytes
from edgekd.stages.estimate.parts import EVERY, expected
from edgekd.stages.estimate.room import disk_bytes, free_bytes
from edgekd.stages.estimate.steps import Measured, Pace, measure, training_steps
from edgekd.stages.seeds import roles
from edgekd.training.arguments import split_arguments
from edgekd.training.engines.placement import torch_device
from edgekd.training.store.fill import in_bytes

FILE, SCHEMA = "estimate.json", "edgekd.estimate/1"
LEAST_STEPS = 100  # of all trainings: with fewer, measuring would take as long as the run
_KINDS = {
    "train": "training", "torch": "AP in torch", "knowledge": "the teacher's knowledge", "export": "export",
    "device": "AP on devices", "profile": "latency", "end": "gate and report",
}  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take.

    Attributes:
        measured: what it goes by.
        parts: its stages, in order.
        gpu_total_bytes: what the GPU has; None on a CPU.
    """

    measured: Measured
    parts: list[Part]
    disk_bytes: int
    free_bytes: int
    gpu_total_bytes: int | None

    @property
    def seconds(self) -> float:
        """In all."""
        return sum(part.seconds for part in self.parts)

    def as_json(self) -> dict[str, Any]:
        """For programs; seconds and bytes, all of them estimates."""
        return {
            "seconds": round(self.seconds, 1),
            "stages": [asdict(part) | {"seconds": round(part.seconds, 2)} for part in self.parts],
            "trainings": {role: asdict(pace) for role, pace in self.measured.trainings.items()},
            "memory_bytes": max(pace.resident_bytes for pace in self.measured.trainings.values()),
            "gpu_memory_bytes": max(pace.gpu_bytes or 0 for pace in self.measured.trainings.values()) or None,
            "gpu_total_bytes": self.gpu_total_bytes,
            "disk_bytes": self.disk_bytes,
            "disk_free_bytes": self.free_bytes,
        }


def why_not(context: Context) -> str | None:
    """Why no steps are made; None if they are."""
    steps = training_steps(context, roles(context.bound.recipe))
    if steps < LEAST_STEPS:
        return f"{steps} steps of training are too few to measure some beforehand"
    processes = split_arguments(context.bound.recipe.train)[1].processes
    if max(processes, ranks.size()) > 1:
        return "several processes train together, and their steps are not measured by one"
    return None


def estimated(context: Context, names: Sequence[str], measured: Measured, runs: Path) -> Estimate:
    """From measured steps to a whole run.

    Args:
        names: the stages that it does.
        runs: folder in which earlier runs may lie.
    """
    parts = expected(context, names, measured, former_seconds(runs, context.bound.recipe.name))
    device = torch_device(context.bound.recipe.train.get("device"))
    return Estimate(measured, parts, disk_bytes(context), free_bytes(runs), gpu_total_bytes(device))


def of_a_check(context: Context) -> dict[str, Any]:
    """A whole run, as JSON; earlier runs are looked for in `runs`, where commands of the docs put them."""
    if why := why_not(context):
        return {"why_not": why}
    return estimated(context, EVERY, measure(context, context.path / "estimate"), Path("runs")).as_json()


def forecast(context: Context, names: Sequence[str]) -> Forecast | None:
    """What a run that begins is expected to take, said in a line; None where nothing could be measured.

    What was measured is kept in the run directory: a run that goes on measures nothing again.
    """
    if why_not(context) is not None:
        return None
    done = set(context.run.manifest["stages"])
    identity = _identity(context)
    measured = _kept(context.path / FILE, identity)
    if measured is None:
        if all(role in done for role in roles(context.bound.recipe)):
            return None
        say("estimate: making a few steps of each training to see how long they take")
        measured = measure(context, context.path / ".engine" / "estimate")
        write_json(context.path / FILE, {"schema": SCHEMA, "identity": identity, **asdict(measured)})
    found = estimated(context, names, measured, context.path.parent)
    parts = [part for part in found.parts if part.stage not in done]
    say(f"estimate: {told(parts, 'the run' if len(parts) == len(found.parts) else 'what is left of the run')}")
    return Forecast(parts)


def told(parts: Iterable[Part], what: str) -> str:
    """`about 7 min for the run: training 5 min, ...`."""
    by_kind: dict[str, float] = {}
    for part in parts:
        by_kind[part.kind] = by_kind.get(part.kind, 0.0) + part.seconds
    shares = ", ".join(f"{_KINDS[kind]} {in_words(seconds)}" for kind, seconds in by_kind.items() if seconds >= 1)
    return f"about {in_words(sum(by_kind.values()))} for {what}" + (f": {shares}" if shares else "")


def lines(content: Mapping[str, Any]) -> list[str]:
    """What `edgekd check` says for people of what `as_json` holds."""
    if "why_not" in content:
        return [f"estimate: none ({content['why_not']})"]
    parts = [Part(**part) for part in content["stages"]]
    found = [f"estimate: {told(parts, 'a run on this machine')}"]
    paces = [f"{role} {pace['step_s']:.3g} s" for role, pace in content["trainings"].items()]
    steps = max(pace["steps"] for pace in content["trainings"].values())
    guessed = sum(part.seconds for part in parts if part.known_by == "guess")
    seen = f"a step takes {', '.join(paces)}, seen in {steps} steps, as busy as this machine is now"
    found.append(f"estimate: {seen}; of the whole, {in_words(guessed)} are guessed")
    gpu = content["gpu_memory_bytes"]
    memory = f"{in_bytes(content['memory_bytes'])} of memory"
    if gpu:
        memory += f", {in_bytes(gpu)} of the GPU's {in_bytes(content['gpu_total_bytes'])}"
    disk, free = content["disk_bytes"], content["disk_free_bytes"]
    found.append(f"estimate: needs about {memory}, and {in_bytes(disk)} of disk ({in_bytes(free)} are free)")
    if disk > free:
        found.append("warning: the disk is likely to be too small; free some, or choose an --out on another one")
    return found


def _identity(context: Context) -> str:
    """A hash of what decides how long a step takes."""
    recipe = context.bound.recipe
    asked = recipe.model_dump(mode="json", include={"student", "teacher", "teachers", "ensembles", "distill", "train"})
    machine = {
        "cores": usable_cores(),
        "threads": recipe.threads,
        "device": str(torch_device(recipe.train.get("device"))),
    }
    return sha256_json({**asked, **machine, "data": context.data_identity})


def _kept(file: Path, identity: str) -> Measured | None:
    """What this run has measured before; None where that is not there, damaged, or of something else."""
    try:
        content = read_json(file)
        if content["identity"] != identity:
            return None
        trainings = {role: Pace(**pace) for role, pace in content["trainings"].items()}
        return Measured(trainings, {name: float(seconds) for name, seconds in content["images"].items()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
