"""The `gate:` section of a recipe: what a model must reach on its devices. Every budget is optional."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgekd.errors import unknown

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PER_ARTIFACT = ("max_p90_ms", "max_memory_mb", "max_size_mb", "max_energy_mj", "min_images_per_second")


class Against(BaseModel):
    """Budgets against a release that was kept by `edgekd baseline save`.

    Attributes:
        baseline: its name.
        store: folder of the baselines, from the current folder.
        max_ap_loss: AP that each artifact may have lost since.
        max_slowdown: of the median latency, as a fraction; judged only in the same environment, and never a failure.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    baseline: str
    store: str = "baselines"
    max_ap_loss: Fraction | None = 0.005
    max_slowdown: float | None = Field(None, ge=0, allow_inf_nan=False)


class GateConfig(BaseModel):
    """Budgets. AP is 0..1; names of artifacts on devices are written `target@device`.

    Attributes:
        min_ap: least AP of the torch student and of every artifact.
        max_p90_ms: artifact on device -> largest 90th percentile of the end-to-end latency.
        max_memory_mb, max_energy_mj: artifact on device -> largest peak memory, and energy per inference.
        max_size_mb: artifact on device -> largest size of its files (10^6 bytes).
        min_images_per_second: artifact on device -> least throughput, of the fastest of the recipe's loads.
        max_ap_drop: how much less AP than the torch student an artifact may have.
        min_gain: how much more AP than the control (the same student without a teacher) the student must have; with
            several seeds, the lower end of the interval must.
        min_ap_per_class: class name -> least AP of the torch student and of every artifact.
        against: budgets against a release.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    min_ap: Fraction | None = Field(None, description="least AP of the student and of every artifact")
    max_p90_ms: dict[str, Positive] = Field(
        default_factory=dict, description="target@device: largest p90 of the end-to-end latency in ms"
    )
    max_memory_mb: dict[str, Positive] = Field(
        default_factory=dict, description="target@device: largest peak memory of the process, 10^6 bytes"
    )
    max_size_mb: dict[str, Positive] = Field(
        default_factory=dict, description="target@device: largest size of the artifact's files, 10^6 bytes"
    )
    max_energy_mj: dict[str, Positive] = Field(
        default_factory=dict, description="target@device: largest energy of an inference in millijoules"
    )
    min_images_per_second: dict[str, Positive] = Field(
        default_factory=dict, description="target@device: least throughput of the fastest load of profile.throughput"
    )
    max_ap_drop: Fraction | None = Field(
        None, description="largest loss of AP of an artifact against the torch student"
    )
    min_gain: float | None = Field(
        None,
        ge=-1,
        le=1,
        allow_inf_nan=False,
        description="least AP(student) - AP(control); of several seeds, the lower end of its interval",
    )
    min_ap_per_class: dict[str, Fraction] = Field(
        default_factory=dict, description="class name: least AP of the student and of every artifact"
    )
    against: Against | None = Field(None, description="budgets against a release kept by 'edgekd baseline save'")

    @field_validator(*PER_ARTIFACT)
    @classmethod
    def _named_by_target_and_device(cls, budgets: dict[str, float]) -> dict[str, float]:
        for name in budgets:
            target, _, device = name.partition("@")
            if not target or not device or "@" in device:
                raise ValueError(
                    f"'{name}' does not name an artifact on a device; write target@device, e.g. onnx-fp32@local"
                )
        return budgets


def check_names(
    config: GateConfig,
    targets: Iterable[str],
    devices: Iterable[str],
    class_names: Iterable[str],
    where: str,
) -> list[str]:
    """Problems with names that the budgets use, one line each, for an `InputError`; empty if all are known.

    Args:
        config: the budgets.
        targets, devices, class_names: what the recipe exports, where it measures, what the data holds.
        where: prefix of each line, e.g. `recipes/x.yaml: gate`.
    """
    targets, devices, class_names = list(targets), list(devices), list(class_names)
    known_classes = set(class_names)
    problems: list[str] = []
    for budget in PER_ARTIFACT:
        for name in getattr(config, budget):
            target, _, device = name.partition("@")
            for kind, part, known in (("target", target, targets), ("device", device, devices)):
                if part not in known:
                    problems.append(f"{where}.{budget}.{name}: {unknown(kind, part, known, before=len(problems))}")
    for name in config.min_ap_per_class:
        if name not in known_classes:
            what = unknown("class", name, class_names, before=len(problems))
            problems.append(f"{where}.min_ap_per_class.{name}: {what}")
    return problems
