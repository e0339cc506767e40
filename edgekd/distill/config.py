"""Keys of methods in recipes: those of all, those of feature methods, and how a weight runs over the training."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Taps: TypeAlias = str | tuple[str, ...]


def _weight(given: object) -> object:
    """One message where a union of types would give two."""
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if given != "auto" and not (is_number and 0 <= given < math.inf):  # type: ignore[operator]
        raise ValueError("must be a number from 0 on, or auto")
    return given


Weight: TypeAlias = Annotated[float | Literal["auto"], BeforeValidator(_weight)]


class Schedule(BaseModel):
    """How a term's weight runs over training: factor 0..1 by step.

    The factor rises linearly from 0 over `warmup_epochs`, is 1, then decays to `final` at the last distilled epoch, and
    is 0 from `until_epoch` on (mosaic-off epochs, say), or from the part `until_share` of the training on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    warmup_epochs: float = Field(default=0.0, ge=0)
    decay: Literal["none", "linear", "cosine"] = "none"
    final: float = Field(default=0.1, ge=0, le=1)
    until_epoch: float | None = Field(default=None, gt=0)
    until_share: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Schedule:
        if self.until_epoch is not None and self.until_share is not None:
            raise ValueError("until_epoch and until_share each say when it ends; keep one")
        if self.until_epoch is not None and self.warmup_epochs >= self.until_epoch:
            raise ValueError(
                f"until_epoch={self.until_epoch:g} ends before warmup_epochs={self.warmup_epochs:g} is over; "
                "choose a later until_epoch"
            )
        return self

    def factor(self, epoch: float, epochs: float) -> float:
        """Weight factor at the fractional epoch `epoch` of a training of `epochs`."""
        until = self.until(epochs)
        end = min(until or epochs, epochs)
        if epoch >= end:
            return 0.0 if until is not None and epoch >= until else self.final_factor
        if epoch < self.warmup_epochs:
            return epoch / self.warmup_epochs
        progress = (epoch - self.warmup_epochs) / max(end - self.warmup_epochs, 1e-9)
        if self.decay == "linear":
            return 1 - (1 - self.final) * progress
        if self.decay == "cosine":
            return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
        return 1.0

    def until(self, epochs: float) -> float | None:
        """The epoch from which the factor is 0; None: it never is."""
        return self.until_share * epochs if self.until_share is not None else self.until_epoch

    @property
    def final_factor(self) -> float:
        """The factor at the very end of the decay."""
        return 1.0 if self.decay == "none" else self.final


DEFAULT_SHARE = 0.2
MAIN, EMA = "teacher", "ema"  # names of the recipe's first teacher, and of the student's own average as one


class DistillerConfig(BaseModel):
    """Keys that every method has. Subclasses add the paper's parameters with its defaults and bounds.

    Attributes:
        at_least_one_of: keys that are factors or numbers of a method's parts, 0 leaves one out; not all of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    at_least_one_of: ClassVar[tuple[str, ...]] = ()

    teacher: str = Field(
        MAIN, description="from whom: teacher, a name under teachers or ensembles, or ema, the student's own average"
    )
    weight: Weight = Field(1.0, description="factor on all terms of this method")
    share: float | None = Field(
        None, gt=0, le=1, description="with 'weight: auto': the method's part, relative to the detection loss"
    )
    share_of: Literal["loss", "gradient"] = Field(
        "loss",
        description="with 'weight: auto': share of the detection loss, or of its gradient at the student",
    )
    schedule: Schedule = Field(
        Schedule(),
        description="of the weight: warmup_epochs, decay to final, and until_epoch or until_share where it ends",
    )

    @model_validator(mode="after")
    def _share_of_auto(self) -> DistillerConfig:
        if self.weight != "auto" and (self.share is not None or self.share_of != "loss"):
            key = "share" if self.share is not None else "share_of"
            raise ValueError(f"{key}: only with 'weight: auto'; set it, or leave {key} out")
        return self

    @model_validator(mode="after")
    def _a_part_acts(self) -> DistillerConfig:
        parts = self.at_least_one_of
        if parts and not any(getattr(self, part) for part in parts):
            which = "both" if len(parts) == 2 else "all"
            raise ValueError(f"{', '.join(parts[:-1])} and {parts[-1]} are {which} 0; leave one above 0")
        return self

    @property
    def wanted_share(self) -> float:
        """Of a method whose weight is automatic."""
        return self.share if self.share is not None else DEFAULT_SHARE


class FeatureConfig(DistillerConfig):
    """Keys of methods that compare feature maps.

    `taps` names a role (`neck`, `backbone`, ...) or lists roles and module paths; levels are matched by stride.
    """

    taps: Taps = Field("neck", description="a role or module paths; levels are matched by stride")
    teacher_taps: Taps | None = Field(default=None, description="where they differ from the student's")


class StandardisedConfig(FeatureConfig):
    """Keys of feature methods that may standardise both sides first: a BatchNorm without parameters, per channel."""

    normalise: Literal["none", "channel"] = Field(
        "none", description="channel: both sides are standardised per channel first"
    )
    per_image_below: int = Field(8, ge=0, description="batches smaller than this are normalised per image")


class PreparedConfig(FeatureConfig):
    """Keys of feature methods that train a module of the teacher alone, before any student."""

    prepared: str | None = Field(
        None, min_length=1, description="the file that an earlier preparation left; none: it is done here"
    )
