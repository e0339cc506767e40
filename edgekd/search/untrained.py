"""One candidate on a device, by the ordinary stages: an untrained student is exported, checked there, and profiled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekd.atomic import read_json, write_json
from edgekd.data.config import DataSet
from edgekd.devices import catalog, run_agent
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.faults import DeviceFault
from edgekd.devices.patience import Patience
from edgekd.errors import InputError
from edgekd.export.artifacts import open_artifact
from edgekd.export.contract import TargetSpec
from edgekd.export.int8_options import Int8Options
from edgekd.gate.policy import GateConfig
from edgekd.measure.withheld import is_lasting
from edgekd.recipe.schema import Recipe
from edgekd.run_dir import RunDir
from edgekd.search.students import Candidate
from edgekd.search.verdicts import Result
from edgekd.stages.binding import Bound
from edgekd.stages.context import Context
from edgekd.stages.export import export_stage, measured_size
from edgekd.stages.families import with_families
from edgekd.stages.on_device import profile_stage
from edgekd.stages.quantization_images import int8_options
from edgekd.stages.train import given_stage

IMAGES = 4  # that an artifact is compared with torch on, checked with on the device, and timed with
_ITS_OWN = ("agent", "crashed", "silent")  # faults of a device that another candidate need not have


@dataclass
class Untrained(Context):
    """A run whose student has random weights: what it gives depends on the classes of the data, and on no image."""

    trained: ClassVar[bool] = False
    images: DataSet | None = None

    @cached_property
    def data(self) -> DataSet:
        """As it was read once for all candidates, with few validation images."""
        assert self.images is not None
        return self.images

    @cached_property
    def data_identity(self) -> dict[str, Any]:
        """Classes and channels."""
        return {"class_names": list(self.data.class_names), "channels": self.data.channels, "splits": {}}


@dataclass
class ShortlistContext:
    """What all candidates of a shortlist share.

    Attributes:
        bound: the user's recipe.
        folder: of the run directories.
        data: with at most `IMAGES` validation images.
        turn_seconds: how long to wait for another run that is on the device.
    """

    bound: Bound
    device: DeviceSpec
    folder: Path
    data: DataSet
    turn_seconds: float = 0.0
    patience: dict[str, Patience] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wait_s = self.bound.recipe.profile.wait
        self.patience = self.patience or {self.device.name: Patience(f"device {self.device.name}", wait_s)}

    def measure(self, candidate: Candidate) -> Result:
        """Do a candidate's stages; what is done of them is kept, also by a process that was killed.

        Raises:
            EnvironmentFault: the machine or the device failed, whatever the candidate.
        """
        bound = self.bound_of(candidate)
        path = self.folder / candidate.run
        try:
            with RunDir.held(path, bound.recipe.name, bound.base, bound.locked()) as run:
                context = Untrained(bound, run, turn_seconds=self.turn_seconds, images=self.data)
                run.accept()
                return self._stages(context, candidate)
        except DeviceFault as fault:
            if fault.kind not in _ITS_OWN:
                raise
            return Result("impossible", f"does not run there: {'; '.join(fault.problems)}")
        except InputError as error:
            return Result("impossible", f"cannot be made: {'; '.join(error.problems)}")

    def bound_of(self, candidate: Candidate) -> Bound:
        """The recipe of a candidate's run: its student, target and device, and the user's data."""
        user = self.bound.recipe
        head = user.student.head if user.student.head in candidate.facts.branches else None
        recipe = Recipe.model_validate(
            {
                "name": f"shortlist-{candidate.run}",
                "threads": user.threads,
                "data": user.data.model_dump(mode="json"),
                "student": {"model": candidate.model, "head": head},
                "train": {"imgsz": candidate.size_px},
                "export": [candidate.target.name],
                "devices": [self.device.name],
                "profile": {"protocol": user.search.students.protocol, "wait": user.profile.wait},
            }
        )
        recipe = with_families(recipe, self.bound.base, self.bound.where)
        return replace(
            self.bound, recipe=recipe, distillers=(), quantize_distillers=(), wants_verdict=False,
            gate=GateConfig.model_validate({}),
            targets=(_calm(candidate.target),), devices=(self.device,),
        )  # fmt: skip

    def _stages(self, context: Untrained, candidate: Candidate) -> Result:
        given_stage(context, measured=False)
        export_stage(context)
        if self.device.has_agent:
            _check(context, context.bound.targets[0], self.device)
        profile_stage(context, self.patience)
        name = f"{candidate.target.name}@{self.device.name}"
        artifact = open_artifact(context.path / "export" / candidate.target.name)
        size = sum((artifact.folder / file).stat().st_size for file in artifact.sidecar.files)
        return result_of(read_json(context.path / "profile" / f"{name}.json"), size)


def result_of(summary: dict[str, Any], size_bytes: int) -> Result:
    """A result from a latency summary; times of a device without agent are of inference alone, and its notes say so."""
    size_mb = size_bytes / 1e6
    if not summary["valid"]:
        reasons = "; ".join(summary["invalid_reasons"])
        return Result("impossible" if is_lasting(summary["invalid_reasons"]) else "invalid", reasons, size_mb=size_mb)
    latency = summary["latency_ms"]
    whole = latency.get("end_to_end") or latency["inference"]
    return Result(
        "measured",
        p50_ms=whole["p50"], p90_ms=whole["p90"], size_mb=size_mb,
        memory_mb=summary.get("peak_memory_mb"), energy_mj=summary.get("energy_mj_per_inference"),
        spread=(summary.get("spread") or {}).get("p50") or 0.0, notes=tuple(summary.get("notes") or ()),
    )  # fmt: skip


def few_images(data: DataSet) -> DataSet:
    """The data set with a few validation images: enough for what an untrained student is looked at for."""
    val = data.splits["val"]
    return replace(data, splits={**data.splits, "val": replace(val, images=list(val.images)[:IMAGES])})


def _calm(target: TargetSpec) -> TargetSpec:
    """The target without what only a trained student has: an accuracy to lose."""
    options = dict(target.options)
    for name, found in int8_options(target):
        if isinstance(found, Int8Options):
            options[name] = {**options.get(name, {}), "max_drop": None, "sensitivity_images": 0}
    return target.model_copy(update={"options": options, "parity_images": min(target.parity_images, IMAGES)})


def _check(context: Untrained, target: TargetSpec, device: DeviceSpec) -> None:
    """See that the device computes the artifact: every image is answered, with numbers.

    Raises:
        DeviceFault: it does not.
    """
    name = f"{target.name}@{device.name}"
    inputs = {"artifact": context.run.output_hash(f"export/{target.name}", f"export/{target.name}/edgekd.json")}

    def check() -> list[str]:
        pack = context.pack(measured_size(target, context))
        artifact = context.path / "export" / target.name
        with catalog.open_device(device, context.turn_seconds) as opened:
            found = run_agent.predict(
                opened, artifact, pack.npy_path, conf=1e-6, iou=0.99, max_det=IMAGES, threads=device.threads
            )
        sound = all(np.isfinite(one.boxes_px).all() and np.isfinite(one.scores).all() for one in found.detections)
        if not sound:
            raise DeviceFault("agent", f"device {device.name}: {target.name} gives numbers there that are not finite")
        content = {"schema": "edgekd.runs_there/1", "images": len(found.detections), "environment": found.environment}
        write_json(context.path / "runs_there" / f"{name}.json", content)
        return [f"runs_there/{name}.json"]

    context.stage(f"runs_there/{name}", inputs | {"device": device.model_dump(mode="json")}, check)
