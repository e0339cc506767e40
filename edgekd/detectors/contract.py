"""What edgekd asks of a detector, of any family, as teacher and as student."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

from torch import Tensor, nn

Role = Literal["backbone", "neck", "head_cls", "head_box", "encoder", "decoder", "named"]
Branch = Literal["one2many", "one2one"]


@dataclass(frozen=True)
class Tap:
    """A place in a detector whose output a distiller may read.

    Attributes:
        role: part of the detector; `named` for a module that a recipe names by its path.
        path: module path as in `named_modules()`.
        stride: input pixels per cell.
        channels: C of the (B, C, H, W) output.
    """

    role: Role
    path: str
    stride: int
    channels: int


@dataclass(frozen=True)
class Spec:
    """What a detector is, without its weights: printed by `edgekd check`, and what distillers decide by.

    Attributes:
        family: registry name, e.g. `ultralytics`.
        name: e.g. `yolo26n`; used in messages.
        class_names: index = class id of the logits.
        input_channels: C of the input images.
        size_multiple: height and width of an input must be multiples of this.
        taps: every tap, by role then stride.
        head_kind: `dense` (points on a grid), `query` (decoder queries), `two_stage`.
        box_form: `distribution` (reg_max bins per edge), `distance` (four distances), `box`.
        reg_max: bins per edge; 1 where there is no distribution.
        branches: prediction branches of a dense head.
        point_offset: where a point lies in its cell (YOLO 0.5, RTMDet 0), in cells.
        parameters: number of weights.
    """

    family: str
    name: str
    class_names: tuple[str, ...]
    input_channels: int
    size_multiple: int
    taps: tuple[Tap, ...]
    head_kind: Literal["dense", "query", "two_stage"]
    box_form: Literal["distribution", "distance", "box"]
    reg_max: int
    branches: tuple[Branch, ...]
    point_offset: float
    parameters: int

    def taps_of(self, role: str) -> tuple[Tap, ...]:
        """Taps of one role, by stride."""
        return tuple(sorted((tap for tap in self.taps if tap.role == role), key=lambda tap: tap.stride))

    @property
    def named_paths(self) -> tuple[str, ...]:
        """Paths of the taps that a recipe named."""
        return tuple(tap.path for tap in self.taps if tap.role == "named")


@dataclass
class DensePredictions:
    """Predictions of one branch of a dense head. A = all points of all levels, finest level first.

    Attributes:
        class_logits: (B, A, K).
        box_logits: (B, A, 4, bins) of left, top, right, bottom; None without a distribution.
        points_px: (A, 2) x, y.
        point_strides: (A,).
        level_sizes: (H, W) per level; their products sum to A.
        decode: gives boxes (B, A, 4), x1 y1 x2 y2 px; called at most once, and only when boxes are asked for.
        known_classes: (K,) bool; False where the detector does not know the class (its logits are meaningless there).
            None: all known.
    """

    class_logits: Tensor
    box_logits: Tensor | None
    points_px: Tensor
    point_strides: Tensor
    level_sizes: tuple[tuple[int, int], ...]
    decode: Callable[[], Tensor] = field(repr=False)
    known_classes: Tensor | None = None

    @cached_property
    def boxes_px(self) -> Tensor:
        """(B, A, 4), x1 y1 x2 y2 in input pixels."""
        return self.decode()


@dataclass
class QueryPredictions:
    """Predictions of a query head, denoising queries removed.

    Attributes:
        class_logits: (D, B, Q, K), decoder layers first to last.
        boxes_px: (D, B, Q, 4), x1 y1 x2 y2 px.
        known_classes: as in `DensePredictions`.
    """

    class_logits: Tensor
    boxes_px: Tensor
    known_classes: Tensor | None = None


@dataclass
class DetectorOutput:
    """One forward pass.

    Attributes:
        taps: module path -> (B, C, H, W), for the taps that were asked for.
        dense: branch -> predictions, for dense heads.
        queries: predictions of a query head.
    """

    taps: Mapping[str, Tensor]
    dense: Mapping[str, DensePredictions] = field(default_factory=dict)
    queries: QueryPredictions | None = None


class Detector(Protocol):
    """Any teacher or student of any family.

    `module` is the family's own network: what is trained, saved and exported, without a wrapper.
    """

    spec: Spec
    module: nn.Module

    def forward(
        self, images: Tensor, taps: tuple[str, ...] = (), needs: frozenset[str] = frozenset()
    ) -> DetectorOutput:
        """Run on (B, C, H, W) RGB in 0..1. `needs` names the outputs that are used: `class_logits`, `boxes`."""
        ...

    def compute(self, images: Tensor, needs: frozenset[str]) -> dict[str, Tensor]:
        """The head outputs of `forward` as tensors by name, the batch first; it can be traced and compiled.

        Every layer is called as a module, so that hooks see what a tap asks for.
        """
        ...

    def assemble(self, heads: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """What `forward` gives, from what `compute` returned for these images and from the taps' maps."""
        ...

    def read(self, raw: object, taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """Bring what the module's training forward returned into the common form, without computing it again."""
        ...

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """A plain module from images to (boxes xyxy px (B, N, 4), scores (B, N, K)), or (B, k, 6) if end-to-end."""
        ...

    def loss_scale(self, batch_size: int) -> float:
        """What the family multiplies its mean losses with (v8-type: the batch size; RT-DETR: 1)."""
        ...
