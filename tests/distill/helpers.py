"""Detectors and outputs made by hand, so that a method can be tested without a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.outputs import Assignment, Batch, DensePredictions, DetectorOutput
from edgekd.detectors.spec import Branch, DenseHead, Part, Role, Spec, Tap, Tower
from edgekd.distill.contract import Distiller, Moment, Pair, distiller_type
from edgekd.distill.frozen import Frozen

CLASSES = ("one", "two", "three")


def spec(
    name: str = "yolo11n",
    channels: tuple[int, ...] = (4, 6),
    strides: tuple[int, ...] = (8, 16),
    backbone: tuple[int, ...] = (),
    towers: bool = False,
    **changes: object,
) -> Spec:
    """A dense detector with a neck of `channels` at `strides`; paths are neck.8, neck.16 ...

    `backbone`: channels of its backbone's stages at the first of these strides; paths are backbone.8 ... Keys of the
    dense head (`bins`, `branches`, `point_offset` ...) stand beside those of the spec.
    """
    own = {key: changes.pop(key) for key in ("bins", "branches", "point_offset", "anchors_per_cell") if key in changes}
    facts: dict[str, Any] = {"bins": 5, **own}
    head = DenseHead(strides, **facts)
    base = Spec(
        family="fake",
        name=name,
        class_names=CLASSES,
        input_channels=3,
        size_multiple=32,
        taps=(*taps("backbone", backbone, strides[: len(backbone)]), *taps("neck", channels, strides)),
        head=head,
        parameters=1,
        towers=towers_of(head, channels) if towers else (),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def taps(role: Role, channels: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Tap, ...]:
    """Taps with paths such as neck.8."""
    parts: dict[str, Part] = {"head_cls": "class_logits", "head_box": "boxes"}
    return tuple(Tap(role, f"{role}.{s}", s, c, part=parts.get(role)) for c, s in zip(channels, strides, strict=True))


def towers_of(head: DenseHead, channels: tuple[int, ...]) -> tuple[Tower, ...]:
    """Towers of two layers, with paths such as head.boxes.one2many.8.0."""
    roles: dict[Part, Role] = {"class_logits": "head_cls", "boxes": "head_box"}
    return tuple(
        Tower(part, level, branch, (Tap(role, f"head.{part}.{branch}.{stride}.0", stride, width, part=part),))
        for part, role in roles.items()
        for branch in head.branches
        for level, (stride, width) in enumerate(zip(head.strides, channels, strict=True))
    )


def random_output(of: Spec, size_px: int = 32, batch: int = 2, scale: float = 1.0, seed: int = 0) -> DetectorOutput:
    """Random maps and predictions of a spec; every tensor is a leaf that requires gradients.

    Its loss made the points inside the boxes of `batch_of` positive.
    """
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).requires_grad_()

    inside = [tap for tower in of.towers for tap in tower.taps]
    maps = {
        tap.path: leaf(batch, tap.channels, size_px // tap.stride, size_px // tap.stride) for tap in (*of.taps, *inside)
    }
    assert isinstance(of.head, DenseHead)
    strides, bins = list(of.head.strides), of.head.bins
    points = sum((size_px // stride) ** 2 for stride in strides)
    branches = {
        branch: assigned(
            dense(
                leaf(batch, points, len(of.class_names)),
                leaf(batch, points, 4, bins) if bins > 1 else None,
                leaf(batch, points, 4) if bins == 1 else None,
                size_px=size_px,
                strides=strides,
            ),
            batch_of(batch, size_px),
        )
        for branch in of.branches
    }
    return DetectorOutput(maps, branches)


def dense(
    class_logits: Tensor,
    box_logits: Tensor | None = None,
    distances: Tensor | None = None,
    *,
    size_px: int,
    strides: list[int],
    known: Tensor | None = None,
) -> DensePredictions:
    """Predictions on square grids with points at cell centres.

    Args:
        box_logits: (B, A, 4, bins).
        distances: (B, A, 4) in strides, of a head without a distribution. Neither: no boxes can be had.
    """
    grids, point_strides = [], []
    for stride in strides:
        centres = (torch.arange(size_px // stride) + 0.5) * stride
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        grids.append(torch.stack([x, y], -1).reshape(-1, 2))
        point_strides.append(torch.full((len(grids[-1]),), float(stride)))
    sizes = tuple((size_px // stride, size_px // stride) for stride in strides)
    points_px, per_point = torch.cat(grids), torch.cat(point_strides)

    def decode() -> Tensor:
        assert box_logits is not None or distances is not None, "these predictions have no boxes"
        reach = distances
        if box_logits is not None:
            reach = box_logits.float().softmax(-1) @ torch.arange(box_logits.shape[-1]).float()
        assert reach is not None
        reach = reach.float() * per_point[:, None]
        return torch.cat([points_px - reach[..., :2], points_px + reach[..., 2:]], -1)

    return DensePredictions(points_px, per_point, sizes, decode, class_logits, box_logits, known_classes=known)


def assigned(predictions: DensePredictions, batch: Batch) -> DensePredictions:
    """The same, in whose loss all points inside of a box are positive for it, with a class target of 1."""
    shape = predictions.class_logits.shape
    box_index = torch.full(shape[:2], -1)
    for row, (image, box) in enumerate(zip(batch.image_index.tolist(), batch.boxes_px, strict=True)):
        inside = ((predictions.points_px > box[:2]) & (predictions.points_px < box[2:])).all(-1)
        box_index[image, inside] = row
    foreground = box_index >= 0
    targets = torch.zeros(shape)
    image, point = foreground.nonzero(as_tuple=True)
    targets[image, point, batch.class_ids[box_index[image, point]]] = 1.0
    return replace(predictions, assigned=Assignment(foreground, box_index, targets))


def batch_of(size: int = 2, size_px: int = 32) -> Batch:
    """A batch with one box of class 0, (4, 4, 20, 20), on each image."""
    return Batch(
        images=torch.zeros(size, 3, size_px, size_px),
        image_index=torch.arange(size),
        class_ids=torch.zeros(size, dtype=torch.int64),
        boxes_px=torch.tensor([[4.0, 4, 20, 20]]).repeat(size, 1),
    )


def empty_batch(size: int = 2, size_px: int = 32) -> Batch:
    """A batch without any object."""
    none = torch.zeros(0, dtype=torch.int64)
    return Batch(torch.zeros(size, 3, size_px, size_px), none, none, torch.zeros(0, 4))


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
    classes = ClassMap.by_name(teacher.class_names, class_names)
    columns = tuple(classes.columns) if class_names else ()
    return Pair(student, teacher, class_names, tuple(classes.known.tolist()), tail_of(teacher), columns)


def tail_of(teacher: Spec) -> Callable[[Part, int, int, Branch], Frozen]:
    """Random last layers of a teacher's towers, the same at every call."""

    def tail(part: Part, level: int, cut: int, branch: Branch) -> Frozen:
        tower = teacher.tower(part, level, branch)
        assert tower is not None
        outputs = 4 * teacher.head.bins if part == "boxes" else len(teacher.class_names)
        layer = nn.Conv2d(tower.taps[cut - 1].channels, outputs, 1)
        generator = torch.Generator().manual_seed(level)
        for value in layer.parameters():
            value.data = torch.randn(value.shape, generator=generator) * 0.5
        return Frozen(layer)

    return tail


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
