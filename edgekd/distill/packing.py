"""Knowledge as bytes, image by image, and back: what a record of a store holds of one method.

A tensor (B, ...) of `Distiller.knowledge` becomes planes of a fixed size per image: its values in the type that the
recipe asks for, with int8 a scale beside them, and for one that is thinned out the points at which it is kept. Whole
numbers and booleans are kept as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from edgekd.errors import InputError

Storage: TypeAlias = Literal["fp32", "fp16", "int8"]

_FP16_MAX = 65504.0
_INT8_LEAST = 8  # values behind a scale: with fewer, fp16 takes no more room
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8, "int32": torch.int32,
           "int16": torch.int16, "int64": torch.int64, "uint8": torch.uint8, "bool": torch.bool}  # fmt: skip


@dataclass(frozen=True)
class Points:
    """A tensor (B, A, ...) over points, of which only those are kept where another one is largest.

    Attributes:
        by: key of that other tensor (B, A), of the same knowledge.
        fill: what is read back at all other points.
    """

    by: str
    fill: float = 0.0


Declared: TypeAlias = Callable[[str], Points | None]


@dataclass(frozen=True)
class Plane:
    """Consecutive bytes of a record: one tensor of a fixed type and shape per image."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Per image."""
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize

    def read(self, raw: Tensor) -> Tensor:
        """(B, bytes) uint8, a part of records -> (B, *shape), not copied where it is aligned."""
        kind = _DTYPES[self.dtype]
        aligned = not (raw.storage_offset() % kind.itemsize or raw.stride(0) % kind.itemsize)
        return (raw if aligned else raw.contiguous()).view(kind).reshape(len(raw), *self.shape)


@dataclass(frozen=True)
class Field:
    """How one tensor of a method's knowledge is kept.

    Attributes:
        key: of the tensor.
        shape: of an image, without the batch.
        dtype: float32 of whatever has a fraction; else its own.
        storage: type of the values; that of `dtype` where the tensor has no fraction.
        kept: points at which it is kept, by the tensor `by`; 0: it is kept whole.
        fill: value at the others.
        order: of the dimensions in memory, the batch first, if it is not theirs: what is read lies there as what
            was computed did, so that sums over it round alike.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    storage: str
    kept: int = 0
    by: str = ""
    fill: float = 0.0
    order: tuple[int, ...] = ()

    @property
    def _stored(self) -> tuple[int, ...]:
        return (self.kept, *self.shape[1:]) if self.kept else self.shape

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Scales, if there are any, then values."""
        stored = self._stored
        values = Plane(self.storage, tuple(stored[place - 1] for place in self.order[1:]) if self.order else stored)
        return (Plane("float16", self._stored[:1]), values) if self.storage == "int8" else (values,)

    def write(self, values: Tensor, places: Tensor | None) -> list[Tensor]:
        """Tensors of the planes.

        Args:
            values: (B, *shape).
            places: (B, kept) int64, of a tensor that is thinned out.
        """
        if places is not None:
            values = values.gather(1, _over(places, values))
        scales: list[Tensor] = []
        if self.storage == "float16":
            values = values.float().clamp(-_FP16_MAX, _FP16_MAX)
        elif self.storage == "int8":
            values = values.float()
            scales.append((values.flatten(2).abs().amax(2) / 127).clamp(max=_FP16_MAX).half())
            step = _spread(scales[0].float(), values)
            values = torch.where(step > 0, values / step, step).round().clamp(-127, 127)
        values = values.to(_DTYPES[self.storage])
        return [*scales, values.permute(self.order) if self.order else values]

    def read(self, planes: list[Tensor], places: Tensor | None) -> Tensor:
        """(B, *shape) of the tensors of the planes."""
        values = planes[-1].to(_DTYPES[self.dtype]).contiguous()
        values = values.permute(_inverse(self.order)) if self.order else values
        if self.storage == "int8":
            values = values.mul_(_spread(planes[0].float(), values))
        if places is None:
            return values
        order = self.order or tuple(range(values.ndim))
        whole = torch.empty_permuted((len(values), *self.shape), order, dtype=values.dtype, device=values.device)
        return whole.fill_(self.fill).scatter_(1, _over(places, values), values)


@dataclass(frozen=True)
class Block:
    """The part of a record that is one method's.

    Attributes:
        fields: in the order in which they lie there, behind the points at which thinned out ones are kept.
    """

    fields: tuple[Field, ...]

    @classmethod
    def of(cls, knowledge: Mapping[str, Tensor], declared: Declared, storage: Storage, points: int) -> Block:
        """For knowledge like this.

        Args:
            declared: `Distiller.stored`.
            points: to keep of what may be thinned out, at most; 0: all.
        """
        return cls(tuple(_field(key, knowledge, declared(key), storage, points) for key in sorted(knowledge)))

    @classmethod
    def from_json(cls, content: list[dict[str, Any]]) -> Block:
        """The one whose `as_json` this was."""
        return cls(tuple(Field(**one | {key: tuple(one[key]) for key in ("shape", "order")}) for one in content))

    def as_json(self) -> list[dict[str, Any]]:
        """To keep."""
        return [asdict(field) for field in self.fields]

    @property
    def size_bytes(self) -> int:
        """Per image."""
        return sum(plane.size_bytes for _, planes in self._groups() for plane in planes)

    @property
    def values(self) -> int:
        """Numbers per image before anything is thinned out."""
        return sum(math.prod(field.shape) for field in self.fields)

    def pack(self, knowledge: Mapping[str, Tensor], name: str) -> Tensor:
        """(B, bytes) uint8, on the device of the knowledge.

        Args:
            name: of the method, for a message.

        Raises:
            InputError: its tensors are of another size than before.
        """
        found = {key: tuple(value.shape[1:]) for key, value in knowledge.items()}
        wanted = {field.key: field.shape for field in self.fields}
        if found != wanted:
            key = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))[0]
            raise InputError(size_fault(name, key, wanted.get(key), found.get(key)))
        places = {by: _places(knowledge[by], kept) for by, kept in self._thinned()}
        tensors = [place.int() for place in places.values()]
        for field in self.fields:
            tensors += field.write(knowledge[field.key], places.get(field.by))
        return torch.cat([tensor.contiguous().flatten(1).view(torch.uint8) for tensor in tensors], 1)

    def unpack(self, raw: Tensor) -> dict[str, Tensor]:
        """Knowledge of (B, bytes) uint8, on the same device."""
        start = 0
        found: dict[Any, list[Tensor]] = {}
        for owner, planes in self._groups():
            for plane in planes:
                found.setdefault(owner, []).append(plane.read(raw[:, start : start + plane.size_bytes]))
                start += plane.size_bytes
        places = {by: found[by][0].long() for by, _ in self._thinned()}
        return {field.key: field.read(found[field], places.get(field.by)) for field in self.fields}

    def _thinned(self) -> list[tuple[str, int]]:
        return list(dict.fromkeys((field.by, field.kept) for field in self.fields if field.kept))

    def _groups(self) -> Iterator[tuple[Any, tuple[Plane, ...]]]:
        """Whose planes lie where: first the points by the tensor that chose them, then every field."""
        for by, kept in self._thinned():
            yield by, (Plane("int32", (kept,)),)
        for field in self.fields:
            yield field, field.planes


def size_fault(name: str, key: str, one: object, other: object) -> str:
    """What is wrong with knowledge that has no fixed size."""
    return (
        f"{name}: its knowledge '{key}' has another size for other images ({one}, then {other}), so it cannot be "
        "stored; use teacher.knowledge: online"
    )


def _field(key: str, knowledge: Mapping[str, Tensor], thinned: Points | None, storage: Storage, points: int) -> Field:
    value = knowledge[key]
    shape = tuple(value.shape[1:])
    kept = min(points, shape[0]) if thinned and shape else 0
    where: dict[str, Any] = {"order": _order(value)}
    if thinned and 0 < kept < shape[0]:
        where |= {"kept": kept, "by": thinned.by, "fill": thinned.fill}
    if not value.is_floating_point():
        own = str(value.dtype).removeprefix("torch.")
        return Field(key, shape, own, own, **where)
    boxes = len(shape) > 2 and shape[-1] == 4  # of layers of queries: with a scale per layer, steps of pixels
    many = len(shape) > 1 and math.prod(shape[1:]) >= _INT8_LEAST and not boxes
    kind = {"fp32": "float32", "fp16": "float16", "int8": "int8" if many else "float16"}[storage]
    return Field(key, shape, "float32", kind, **where)


def _order(value: Tensor) -> tuple[int, ...]:
    """Dimensions as they lie in memory, the batch first; empty where that is their own order."""
    strides = value.stride()
    order = (0, *sorted(range(1, value.ndim), key=lambda place: (-strides[place], place)))
    dense = value.permute(order).is_contiguous()
    return order if dense and not value.is_contiguous() else ()


def _inverse(order: tuple[int, ...]) -> list[int]:
    return sorted(range(len(order)), key=lambda place: order[place])


def _places(by: Tensor, kept: int) -> Tensor:
    """(B, kept): where `by` (B, A) is largest, in ascending order."""
    return by.topk(kept, dim=1).indices.sort(dim=1).values


def _over(places: Tensor, values: Tensor) -> Tensor:
    """Places (B, kept) as an index of dimension 1 of `values`."""
    return places.view(*places.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])


def _spread(scale: Tensor, values: Tensor) -> Tensor:
    """(B, C) as a factor on (B, C, ...)."""
    return scale.view(*scale.shape, *[1] * (values.ndim - 2))
