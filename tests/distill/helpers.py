"""Detectors and outputs made by hand, so that a method can be tested without a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from edgekd.detectors.contract import DensePredictions, DetectorOutput, Role, Spec, Tap
from edgekd.distill.contract import Batch, Distiller, distiller_type

CLASSES = ("one", "two", "three")


def spec(
    name: str = "yolo11n",
    channels: tuple[int, ...] = (4, 6),
    strides: tuple[int, ...] = (8, 16),
    **changes: object,
) -> Spec:
    """A dense detector with a neck of `channels` at `strides`; paths are neck.8, neck.16 ..."""
    base = Spec(
        family="fake",
        name=name,
        class_names=CLASSES,
        input_channels=3,
        size_multiple=32,
        taps=taps("neck", channels, strides),
        head_kind="dense",
        box_form="distribution",
        reg_max=5,
        branches=("one2many",),
        point_offset=0.5,
        parameters=1,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def taps(role: Role, channels: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Tap, ...]:
    """Taps with paths such as neck.8."""
    return tuple(Tap(role, f"{role}.{s}", s, c) for c, s in zip(channels, strides, strict=True))


def random_output(of: Spec, size_px: int = 32, batch: int = 2, scale: float = 1.0, seed: int = 0) -> DetectorOutput:
    """Random maps and predictions of a spec; every tensor is a leaf that requires gradients."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).requires_grad_()

    maps = {tap.path: leaf(batch, tap.channels, size_px // tap.stride, size_px // tap.stride) for tap in of.taps}
    strides = [tap.stride for tap in of.taps_of("neck")]
    points = sum((size_px // stride) ** 2 for stride in strides)
    branches = {
        branch: dense(
            leaf(batch, points, len(of.class_names)),
            leaf(batch, points, 4, of.reg_max) if of.reg_max > 1 else None,
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
    points_px = torch.cat(grids)
    return DensePredictions(
        class_logits, box_logits, points_px, torch.cat(point_strides), sizes, decode=_no_boxes, known_classes=known
    )


def _no_boxes() -> Tensor:
    raise AssertionError("no method of these decodes boxes")


def batch_of(size: int = 2, size_px: int = 32) -> Batch:
    """A batch with one box, (4, 4, 20, 20), on each image."""
    return Batch(
        images=torch.zeros(size, 3, size_px, size_px),
        image_index=torch.arange(size),
        class_ids=torch.zeros(size, dtype=torch.int64),
        boxes_px=torch.tensor([[4.0, 4, 20, 20]]).repeat(size, 1),
    )


def build(name: str, student: Spec, teacher: Spec, **config: object) -> Distiller:
    """A built method with seeded adapters."""
    kind = distiller_type(name)
    method = kind(kind.config_type.model_validate(config))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method.build(student, teacher)
    return method


def terms(
    method: Distiller, student: DetectorOutput, teacher: DetectorOutput, batch: Batch | None = None
) -> Mapping[str, Tensor]:
    """The terms of one step."""
    batch = batch or batch_of()
    return method.terms(student, method.knowledge(teacher, batch), batch, 0)
