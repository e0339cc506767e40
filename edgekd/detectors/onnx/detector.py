"""A detector in an ONNX file as teacher: by its points where they are known, else by its detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from edgekd.detectors.onnx.facts import GRID, Facts
from edgekd.detectors.onnx.network import OnnxNetwork
from edgekd.detectors.outputs import DensePredictions, DetectorOutput
from edgekd.detectors.spec import Branch, DenseHead, DetectionsHead, Head, Part, Spec
from edgekd.errors import InputError

FAMILY = "onnx"
_EPS = 1e-6  # of a probability, in float32


class OnnxDetector:
    """A `Detector` around an `OnnxNetwork`. It has no taps: nothing inside is looked at.

    With the points of its outputs known it has a dense head, whose logits are log(p / (1 - p)) of its scores.
    """

    def __init__(self, network: OnnxNetwork, facts: Facts, may_have_grid: bool) -> None:
        """`may_have_grid`: outputs as many as the points of `GRID` are at these points."""
        self.network = network
        self.module: nn.Module = network
        names = _names(network, facts)
        head = _head(network, facts, may_have_grid)
        multiple = max(head.strides) if isinstance(head, DenseHead) else 1
        self.spec = Spec(
            FAMILY, network.path.name, names, network.channels, multiple, (), head, _weights(network), traceable=False
        )

    def with_taps(self, paths: Sequence[str]) -> OnnxDetector:
        """It has none."""
        return self

    def with_module(self, module: nn.Module) -> OnnxDetector:
        """See `Detector.with_module`; there is no other network of this architecture."""
        return self

    def frozen(self) -> OnnxDetector:
        """See `Detector.frozen`; nothing in it can change."""
        return self

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """See `Detector.compute`: `scores` (B, A, K) as logits, `boxes` (B, A, 4) px.

        Raises:
            InputError: the images have another size than the points that the model has.
        """
        if not parts or not isinstance(self.spec.head, DenseHead):
            return {}
        if not self.network.takes(images):
            height, width = self.network.size_px or (0, 0)
            raise InputError(
                f"{self.network.where}: {self.network.path} takes {width}x{height} px, the images have "
                f"{images.shape[3]}x{images.shape[2]}: its points are not theirs; set train.imgsz, or export it for "
                "any size"
            )
        boxes, scores = self.network(images)
        found = {"boxes": boxes} if "boxes" in parts else {}
        return {"scores": scores.logit(_EPS), **found} if "class_logits" in parts else found

    def assemble(self, heads: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """See `Detector.assemble`."""
        if not heads:
            return DetectorOutput(dict(taps))
        assert isinstance(self.spec.head, DenseHead)
        points, strides, sizes = _grid(self.spec.head, images)
        predictions = DensePredictions(
            points_px=points,
            point_strides=strides,
            level_sizes=sizes,
            decode=partial(_given, heads.get("boxes")),
            logits=heads.get("scores"),
        )
        return DetectorOutput(dict(taps), {"one2many": predictions})

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """See `Detector.head_tail`.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.spec.name}: head_tail: the layers of an ONNX file cannot be taken apart")

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """See `Detector.export_module`."""
        return self.network


def _given(boxes: Tensor | None) -> Tensor:
    if boxes is None:
        raise RuntimeError("boxes were not computed: add 'boxes' to the method's needs")
    return boxes


def _grid(head: DenseHead, images: Tensor) -> tuple[Tensor, Tensor, tuple[tuple[int, int], ...]]:
    """Points (A, 2) px, their strides (A,) and (H, W) of each level."""
    height, width = images.shape[-2:]
    sizes = tuple((-(-height // stride), -(-width // stride)) for stride in head.strides)
    points, strides = [], []
    for (rows, columns), stride in zip(sizes, head.strides, strict=True):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        points.append((torch.stack([x, y], -1).reshape(-1, 2) + head.point_offset) * stride)
        strides.append(torch.full((rows * columns,), float(stride)))
    return torch.cat(points).to(images.device), torch.cat(strides).to(images.device), sizes


def _head(network: OnnxNetwork, facts: Facts, may_have_grid: bool) -> Head:
    strides = GRID if facts.strides is None and may_have_grid else tuple(facts.strides or ())
    if strides and network.grids(strides):
        return DenseHead(strides, point_offset=facts.offset)
    if facts.strides is not None:
        raise InputError(
            f"{network.where}: {network.path} does not have one output for each point of strides "
            f"{', '.join(map(str, strides))}; correct strides in {network.path.with_suffix('.json').name}, or leave "
            "them out"
        )
    return DetectionsHead()


def _names(network: OnnxNetwork, facts: Facts) -> tuple[str, ...]:
    count, beside = network.classes, network.path.with_suffix(".json").name
    if facts.classes is None:
        if count is None:
            raise InputError(
                f'{network.where}: {network.path} does not say its classes; write {{"classes": ["..."]}} into {beside} '
                "beside it"
            )
        return tuple(f"class {number}" for number in range(count))
    if count is not None and count != len(facts.classes):
        raise InputError(
            f"{network.where}: {network.path} scores {count} classes, {len(facts.classes)} names are given; correct "
            f"classes in {beside}"
        )
    return tuple(facts.classes)


def _weights(network: OnnxNetwork) -> int:
    """How many numbers the file has as weights."""
    import onnx

    graph = onnx.load(str(network.path), load_external_data=False).graph
    return sum(_size(one.dims) for one in graph.initializer)


def _size(dims: Sequence[int]) -> int:
    total = 1
    for size in dims:
        total *= size
    return total if dims else 0
