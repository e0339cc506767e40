"""Sections of a recipe that say how its models are measured and shown."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_ENTRIES = 100  # of a list that a person writes


class Strict(BaseModel):
    """No key that is not known, and nothing changed once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ValidateRecipe(Strict):
    """How AP is measured."""

    conf: float = Field(default=0.001, gt=0, lt=1)
    iou: float = Field(default=0.7, gt=0, le=1, description="NMS IoU")
    max_det: int = Field(default=300, ge=1, le=10_000)
    operating_threshold: float = Field(
        default=0.25, gt=0, lt=1, description="score at which precision and recall are stated"
    )


class ThroughputRecipe(Strict):
    """One load under which images per second are counted."""

    streams: int = Field(default=1, ge=1, le=256, description="that work at once, and share the device's threads")
    batch: int | None = Field(
        default=None, ge=1, le=4096, description="images per inference; default: the artifact's fixed batch, else 1"
    )


class ProfileRecipe(Strict):
    """How latency is measured, and throughput beside it."""

    protocol: Literal["quick", "full", "sustained"] = "full"
    sustained_minutes: float = Field(default=30.0, gt=0, le=1440, description="length of the protocol 'sustained'")
    wait: float = Field(
        default=60.0, ge=0, le=3600, description="seconds to wait for a quiet device, all measurements on it together"
    )
    throughput: tuple[ThroughputRecipe, ...] = Field(
        default=(),
        max_length=MOST_ENTRIES,
        description="loads to measure after the single stream, in the same session",
    )

    @model_validator(mode="after")
    def _loads_differ(self) -> ProfileRecipe:
        if len(set(self.throughput)) < len(self.throughput):
            raise ValueError("throughput: the same load twice; leave one out")
        return self


class ReportRecipe(Strict):
    """What the report shows."""

    images: bool = Field(default=True, description="false leaves every image out of the report")
    examples: int = Field(default=6, ge=0, le=50)
