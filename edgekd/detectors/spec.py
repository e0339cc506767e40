"""What a detector is, without its weights, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from edgekd.detectors.parts import Attention, Proposals, QueryPart

Role = Literal["backbone", "neck", "head_cls", "head_box", "encoder", "decoder", "named"]
Branch = Literal["one2many", "one2one"]
Activation = Literal["sigmoid", "softmax"]

# What can be asked of a head beside its taps. `assignment` is a student's: who its own loss made positive. Of query
# heads alone, and only of those that give it (`QueryHead.gives`):
#   layers       predictions of every decoder layer, also in inference
#   embeddings   queries behind each layer, and the content and the boxes from which they came
#   memory       the encoder's maps, per level
#   decoder      the decoder over this pass's memory: it can be asked about other queries
#   denoising    of a student in training, predictions of its denoising queries
#   Attention    of one layer
# `Proposals` is had of a head of any kind: it is made of the head's predictions, and `Detector.compute` never sees it.
Part: TypeAlias = (
    Literal["class_logits", "boxes", "assignment", "layers", "embeddings", "memory", "decoder", "denoising"]
    | Attention
    | Proposals
)
_PREDICTIONS: frozenset[Part] = frozenset({"class_logits", "boxes"})


@dataclass(frozen=True)
class Tap:
    """A place in a detector whose output a distiller may read.

    Attributes:
        role: part of the detector; `named` for a module that a recipe names by its path.
        path: module path as in `named_modules()`.
        stride: input pixels per cell.
        channels: C of the (B, C, H, W) output.
        call: which call of the module in one pass is meant, for one that runs once per level.
        part: what of the head must run so that this module does; None for everything before the head.
    """

    role: Role
    path: str
    stride: int
    channels: int
    call: int = 0
    part: Part | None = None

    @property
    def key(self) -> str:
        """Name of its map among a pass's taps: the path, and the call where it is not the first."""
        return f"{self.path}@{self.call}" if self.call else self.path


@dataclass(frozen=True)
class Tower:
    """Layers of a dense head from a level's map to one kind of its predictions.

    Attributes:
        part: what it predicts.
        level: index of the level, finest first.
        branch: whose it is.
        taps: behind its first layer, behind its first two, and so on; none behind the last.
    """

    part: Part
    level: int
    branch: Branch
    taps: tuple[Tap, ...]


@dataclass(frozen=True)
class DenseHead:
    """A head that predicts at the points of grids, one grid per level.

    Attributes:
        strides: input pixels per cell of each level, finest first.
        point_offset: where a point lies in its cell (YOLO 0.5, RTMDet 0), in cells.
        bins: values per box edge of a distribution; 1: the head predicts four distances.
        branches: sets of predictions.
        anchors_per_cell: predictions at each point.
        activation: from class logits to scores. A family whose scores are no sigmoid of one number each (a softmax, a
            product with a centerness) serves more methods with the logits log(p / (1 - p)) of its scores.
    """

    kind: ClassVar[str] = "dense"
    ranks: ClassVar[bool] = False  # all predictions are given, in the order of the points
    strides: tuple[int, ...]
    point_offset: float = 0.5
    bins: int = 1
    branches: tuple[Branch, ...] = ("one2many",)
    anchors_per_cell: int = 1
    activation: Activation = "sigmoid"

    @property
    def points(self) -> str:
        """In words, for messages."""
        strides = ", ".join(map(str, self.strides))
        anchors = f", {self.anchors_per_cell} anchors a cell" if self.anchors_per_cell > 1 else ""
        return f"strides {strides} at offset {self.point_offset:g}{anchors}"


@dataclass(frozen=True)
class QueryHead:
    """A decoder whose queries become boxes.

    Attributes:
        layers: decoder layers.
        queries: per image, without denoising queries.
        width: channels of a query's embedding.
        bins: values per box edge of a distribution; 1: there is none.
        activation: from class logits to scores.
        strides: input pixels per cell of each level of the encoder's memory, finest first; empty: it gives none.
        gives: what can be had of it: the parts of its name in `Part`, `self_attention` and `cross_attention` for
            `Attention` of any layer, `class_embedding`, content of queries by class (`Decoder.class_embedding`), and
            `reference_boxes`, where `embeddings` come with boxes with which layers began (`States.references`).
    """

    kind: ClassVar[str] = "query"
    ranks: ClassVar[bool] = True  # the best of many become queries; near-equal scores may be ordered either way
    layers: int
    queries: int
    width: int
    bins: int = 1
    activation: Activation = "sigmoid"
    strides: tuple[int, ...] = ()
    gives: tuple[QueryPart, ...] = ("class_logits", "boxes")
    branches: ClassVar[tuple[Branch, ...]] = ()


@dataclass(frozen=True)
class RegionHead:
    """The second stage of a detector: it looks at regions that the first stage proposes, others on every image.

    Or the only stage of one that looks at the image in a size of its own (SSD300). Its predictions belong to no point
    and no query that a student has. Such a detector teaches by its maps, by its proposals where it `gives` predictions,
    and by its detections.

    Attributes:
        width: channels of a region's embedding.
        activation: from class logits to scores.
        gives: what `Detector.compute` gives of it, as `RegionPredictions`: both, or nothing.
    """

    kind: ClassVar[str] = "region"
    ranks: ClassVar[bool] = True  # the best of many proposals are looked at
    bins: ClassVar[int] = 1
    width: int
    activation: Activation = "softmax"
    gives: tuple[Literal["class_logits", "boxes"], ...] = ()
    branches: ClassVar[tuple[Branch, ...]] = ()


@dataclass(frozen=True)
class DetectionsHead:
    """Of a detector that is known by its detections alone: boxes, scores and classes, after whatever it does inside.

    Such a detector teaches where its detections become labels; `Detector.compute` gives none of the parts.

    Attributes:
        activation: scores are probabilities already.
    """

    kind: ClassVar[str] = "detections"
    ranks: ClassVar[bool] = True  # only the best are given
    bins: ClassVar[int] = 1
    activation: Activation = "sigmoid"
    branches: ClassVar[tuple[Branch, ...]] = ()


Head: TypeAlias = DenseHead | QueryHead | RegionHead | DetectionsHead


@dataclass(frozen=True)
class Spec:
    """What a detector is, without its weights: printed by `edgekd check`, and what distillers decide by.

    Attributes:
        family: that opened it, by its name.
        name: e.g. `yolo26n`; used in messages.
        class_names: index = class id of the logits.
        input_channels: C of the input images.
        size_multiple: height and width of an input must be multiples of this.
        taps: every tap, by role then stride.
        head: its kind, and what that kind has.
        parameters: number of weights.
        towers: of a dense head whose layers can be told apart; see `Detector.head_tail`.
        traceable: False where `compute` runs outside torch: no other runtime or number format than its own can be had.
    """

    family: str
    name: str
    class_names: tuple[str, ...]
    input_channels: int
    size_multiple: int
    taps: tuple[Tap, ...]
    head: Head
    parameters: int
    towers: tuple[Tower, ...] = ()
    traceable: bool = True

    def tower(self, part: Part, level: int, branch: str) -> Tower | None:
        """The one of a level; None where the head has none, or is not known from inside."""
        wanted = (part, level, branch)
        return next((one for one in self.towers if (one.part, one.level, one.branch) == wanted), None)

    def taps_of(self, role: str) -> tuple[Tap, ...]:
        """Taps of one role, by stride."""
        return tuple(sorted((tap for tap in self.taps if tap.role == role), key=lambda tap: tap.stride))

    def needs(self, *keys: str, parts: Iterable[Part] = ()) -> Needs:
        """Taps by their keys, and parts of the head."""
        by_key = {tap.key: tap for tap in self.taps}
        return Needs(tuple(by_key[key] for key in keys), frozenset(parts))

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Sets of predictions of a dense head; none of another."""
        return self.head.branches

    @property
    def named_paths(self) -> tuple[str, ...]:
        """Paths of the taps that a recipe named."""
        return tuple(tap.path for tap in self.taps if tap.role == "named")


@dataclass(frozen=True)
class Needs:
    """What is asked of one pass of a detector. Needs of several methods merge by `|`.

    Attributes:
        taps: to be read.
        parts: of the head.
    """

    taps: tuple[Tap, ...] = ()
    parts: frozenset[Part] = field(default_factory=frozenset)

    def __or__(self, other: Needs) -> Needs:
        return Needs(tuple(dict.fromkeys((*self.taps, *other.taps))), self.parts | other.parts)

    @classmethod
    def merged(cls, needs: Iterable[Needs]) -> Needs:
        """All together."""
        total = cls()
        for one in needs:
            total |= one
        return total

    @property
    def head(self) -> frozenset[Part]:
        """Parts of the head that must run: those that are asked for or made into proposals, or that taps lie in."""
        inside = {tap.part for tap in self.taps if tap.part is not None}
        made = frozenset(part for part in self.parts if isinstance(part, Proposals))
        return (self.parts - made) | (_PREDICTIONS if made else frozenset()) | inside

    @property
    def at_points(self) -> bool:
        """Whether more is read of the head than its proposals: what belongs to its points, queries or towers."""
        return any(not isinstance(part, Proposals) for part in self.parts) or any(tap.part for tap in self.taps)

    @property
    def head_names(self) -> str:
        """Those parts in words, for messages."""
        return ", ".join(sorted(map(str, self.head)))


NOTHING = Needs()
