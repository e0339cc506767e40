"""Keys of `unikd`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from edgekd.distill.config import PreparedConfig

# What decides the extractors, beside the teacher's taps.
DECIDE = (
    "queries", "width", "layers", "hidden", "jitter_iou", "background_iou", "absorb_epochs", "absorb_lr0",
    "absorb_divided_by",
)  # fmt: skip


class UniKDConfig(PreparedConfig):
    """Keys of `unikd`."""

    at_least_one_of: ClassVar[tuple[str, ...]] = ("content", "positional")

    content: float = Field(10.0, ge=0, description="lambda of the content queries; 0 leaves them out")
    positional: float = Field(10.0, ge=0, description="lambda of the positional queries; 0 leaves them out")
    negatives: bool = Field(True, description="with the part of D on queries without an object")
    adapter_layers: int = Field(2, ge=0, le=6, description="layers of deformable self-attention in phi")
    queries: int = Field(200, ge=1, le=1000, description="N, of either kind")
    width: int = Field(256, ge=16, le=1024, multiple_of=16, description="C, channels of a query")
    layers: int = Field(1, ge=1, le=6, description="decoder layers of f, and of f_e")
    hidden: int = Field(64, ge=0, le=4096, description="channels of the feed-forward part of a layer; 0: none")
    jitter_iou: float = Field(0.6, gt=0, lt=1, description="alpha, the least IoU of a jittered box with its object")
    background_iou: float = Field(0.4, gt=0, le=1, description="beta, above the IoU of background with any object")
    absorb_epochs: int = Field(15, ge=1, le=300, description="epochs in which the extractors are trained")
    absorb_lr0: float = Field(2e-4, gt=0, le=1, description="their learning rate, of AdamW; a tenth from 80 % on")
    absorb_divided_by: Literal["queries", "objects"] = Field(
        "queries", description="what their class loss is divided by: N, or N' as in Deformable DETR"
    )
