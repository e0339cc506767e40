"""How far an artifact may be from the torch student on real images."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Tolerance(BaseModel):
    """How far an artifact may be from the torch student on real images. A limit that is None does not apply.

    Attributes:
        max_abs_score: largest absolute difference of a score.
        max_abs_box_px: largest absolute difference of a box edge, over boxes that score at least 0.05 in torch.
        min_matched: share of torch's detections that the artifact has as well, see `matched`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_abs_score: float | None = Field(None, gt=0, le=1)
    max_abs_box_px: float | None = Field(None, gt=0, le=10_000)
    min_matched: float | None = Field(None, gt=0, le=1)

    @model_validator(mode="after")
    def _some_limit(self) -> Tolerance:
        if all(limit is None for limit in self.model_dump().values()):
            raise ValueError("needs a limit: max_abs_score, max_abs_box_px or min_matched")
        return self

    @property
    def score_step(self) -> float:
        """What counts as near where rows are paired by their scores."""
        return self.max_abs_score or 0.1

    @property
    def box_step_px(self) -> float:
        """What counts as near where rows are paired by their boxes."""
        return self.max_abs_box_px or 4.0
