"""Detectors and outputs made by hand, so that a method can be tested without a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.outputs import Batch, DensePredictions, DetectorOutput
from edgekd.detectors.spec import DenseHead, Part, Role, Spec, Tap
from edgekd.distill.contract import Distiller, Moment, Pair, distiller_type

CLASSES = ("one", "two", "three")


def spec(
    name: str = "yolo11n",
    channels: tuple[int, ...] = (4, 6),
    strides: tuple[int, ...] = (8, 16),
    backbone: tuple[int, ...] = (),
    **changes: object,
) -> Spec:
    """A dense detector with a neck of `channels` at `strides`; paths are neck.8, neck.16 ...

    `backbone`: channels of its backbone's stages at the first of these strides; paths are backbone.8 ... Keys of the
    dense head (`bins`, `branches`, `point_offset` ...) stand beside those of the spec.
    """
    own = {key: changes.pop(key) for key in ("bins", "branches", "point_offset", "anchors_per_cell") if key in changes}
    facts: dict[str, Any] = {"bins": 5, **own}
    base = Spec(
        family="fake",
        name=name,
        class_names=CLASSES,
        input_channels=3,
        size_multiple=32,
        taps=(*taps("backbone", backbone, strides[: len(backbone)]), *taps("neck", channels, strides)),
        head=DenseHead(strides, **facts),
        parameters=1,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def taps(role: Role, channels: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Tap, ...]:
    """Taps with paths such as neck.8."""
    parts: dict[str, Part] = {"head_cls": "class_logits", "head_box": "boxes"}
    return tuple(Tap(role, f"{role}.{s}", s, c, part=parts.get(role)) for c, s in zip(channels, strides, strict=True))


def random_output(of: Spec, size_px: int = 32, batch: int = 2, scale: float = 1.0, seed: int = 0) -> DetectorOutput:
    """Random maps and predictions of a spec; every tensor is a leaf that requires gradients."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).requires_grad_()

    maps = {tap.path: leaf(batch, tap.channels, size_px // tap.stride, size_px // tap.stride) for tap in of.taps}
    assert isinstance(of.head, DenseHead)
    strides, bins = list(of.head.strides), of.head.bins
    points = sum((size_px // stride) ** 2 for stride in strides)
    branches = {
        branch: dense(
            leaf(batch, points, len(of.class_names)),
            leaf(batch, points, 4, bins) if bins > 1 else None,
            size_px=size_px,
            strides=strides,
        )
        for branch in of.branches
    }
    return DetectorOutput(maps, branches)


def dense(
    class_logits: Tensor,
    box_logits: Tensor | None = None,
    *,
    size_px: int,
    strides: list[int],
    known: Tensor | None = None,
) -> DensePredictions:
    """Predictions on square grids with points at cell centres."""
    grids, point_strides = [], []
    for stride in strides:
        centres = (torch.arange(size_px // stride) + 0.5) * stride
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        grids.append(torch.stack([x, y], -1).reshape(-1, 2))
        point_strides.append(torch.full((len(grids[-1]),), float(stride)))
    sizes = tuple((size_px // stride, size_px // stride) for stride in strides)
    points_px, every_stride = torch.cat(grids), torch.cat(point_strides)

    def decode() -> Tensor:
        """Expected distances, in cells."""
        assert box_logits is not None, "these predictions have no boxes"
        left, top, right, bottom = (
            (box_logits.softmax(-1) @ torch.arange(float(box_logits.shape[-1])).to(box_logits)) * every_stride[:, None]
        ).unbind(-1)
        x, y = points_px.unbind(-1)
        return torch.stack([x - left, y - top, x + right, y + bottom], -1)

    return DensePredictions(points_px, every_stride, sizes, decode, class_logits, box_logits, known_classes=known)


def batch_of(size: int = 2, size_px: int = 32) -> Batch:
    """A batch with one box, (4, 4, 20, 20), on each image."""
    return Batch(
        images=torch.zeros(size, 3, size_px, size_px),
        image_index=torch.arange(size),
        class_ids=torch.zeros(size, dtype=torch.int64),
        boxes_px=torch.tensor([[4.0, 4, 20, 20]]).repeat(size, 1),
    )


def scene(size: int = 2) -> Batch:
    """A batch whose images of 32 px have three boxes of 16, 8 and 10 px each."""
    boxes = torch.tensor([[4.0, 4, 20, 20], [1, 22, 9, 30], [21, 2, 31, 12]])
    return Batch(
        images=torch.zeros(size, 3, 32, 32),
        image_index=torch.arange(size).repeat_interleave(3),
        class_ids=torch.tensor([0, 1, 2]).repeat(size),
        boxes_px=boxes.repeat(size, 1),
    )


def boxes_of(*per_image: list[list[float]], size_px: tuple[int, int] = (32, 32)) -> Batch:
    """A batch with the given boxes, x1 y1 x2 y2 px, of each image; `size_px` is (height, width)."""
    boxes = [box for image in per_image for box in image]
    return Batch(
        images=torch.zeros(len(per_image), 3, *size_px),
        image_index=torch.tensor([image for image, own in enumerate(per_image) for _ in own], dtype=torch.int64),
        class_ids=torch.zeros(len(boxes), dtype=torch.int64),
        boxes_px=torch.tensor(boxes).reshape(-1, 4),
    )


def wave(*shape: int, step: float = 0.7, phase: float = 0.0) -> Tensor:
    """2 sin(step * n + phase): values that other code can be given, too."""
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float32) * step + phase).reshape(shape) * 2


def build(name: str, student: Spec, teacher: Spec, **config: object) -> Distiller:
    """A built method with seeded adapters."""
    kind = distiller_type(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(kind.config_type.model_validate(config), pair_of(student, teacher))


def pair_of(student: Spec, teacher: Spec, class_names: tuple[str, ...] = CLASSES) -> Pair:
    """Two specs that know all classes of `class_names` that their names say."""
    known = ClassMap.by_name(teacher.class_names, class_names).known
    return Pair(student, teacher, class_names, tuple(known.tolist()))


def moment(step: int = 0, seed: int = 0) -> Moment:
    """A step of a training of ten epochs of ten steps."""
    return Moment(step, step / 10, 10, torch.Generator().manual_seed(seed))


def terms(
    method: Distiller, student: DetectorOutput, teacher: DetectorOutput, batch: Batch | None = None
) -> Mapping[str, Tensor]:
    """The terms of one step."""
    batch = batch or batch_of()
    with torch.no_grad():
        knowledge = {key: value.detach() for key, value in method.knowledge(teacher, batch).items()}
    return method.terms(student, knowledge, batch, moment())
