"""What a run measured, as far as a verdict rests on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ArtifactFacts:
    """What was measured of one artifact on one device; None where it was not.

    Attributes:
        target, device: which artifact, where.
        ap: on the validation split, 0..1.
        p90_ms: end-to-end; None also where the samples were too few for it.
        memory_mb, energy_mj, size_mb: peak memory, energy per inference, size of the files.
        latency_valid: whether the latency figures may be used.
        invalid_reasons: why not.
        per_class: class name -> AP; None: the per-class budgets are applied to the torch student alone.
        images_per_second: of the fastest valid load.
        load_problems: why loads that were measured are not valid.
        no_ap: why there is none, where it is known.
        inference_by: the timing program whose figures these are: of inference alone; None: they are the agent's.
        spread: `p90_ms`, `energy_mj`, `images_per_second` -> how far the processes lie apart in it, where it is known.
        notes, load_notes: on the latency figures, and on those of the fastest load.
    """

    target: str
    device: str
    ap: float | None = None
    p90_ms: float | None = None
    latency_valid: bool = True
    invalid_reasons: tuple[str, ...] = ()
    per_class: Mapping[str, float | None] | None = None
    memory_mb: float | None = None
    energy_mj: float | None = None
    size_mb: float | None = None
    images_per_second: float | None = None
    load_problems: tuple[str, ...] = ()
    no_ap: str | None = None
    inference_by: str | None = None
    spread: Mapping[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    load_notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As the recipe's budgets name it."""
        return f"{self.target}@{self.device}"


@dataclass(frozen=True)
class Facts:
    """What a run measured; None where it did not.

    Attributes:
        student_ap, control_ap: of the torch models.
        per_class: class name -> AP of the torch student; None where the class has no ground truth.
        artifacts: every target on every device.
        gain: over several seeds, as `PairedGain`; None where there is one.
    """

    student_ap: float | None
    control_ap: float | None
    per_class: Mapping[str, float | None]
    artifacts: Sequence[ArtifactFacts]
    gain: Mapping[str, Any] | None = None
