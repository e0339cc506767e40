"""What a method reads in every step, told without a network: it is built for pairs that are specs alone, and asked."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import get_args

import torch
from torch import nn

from edgekd.detectors.parts import Attention, QueryPart
from edgekd.detectors.spec import Branch, DenseHead, Head, Needs, Part, QueryHead, Role, Spec, Tap, Tower
from edgekd.distill.contract import Distiller, Pair
from edgekd.distill.frozen import Frozen
from edgekd.distill.requirements import unmet

_STRIDES, _WIDTH = (8, 16, 32), 16
_CLASSES = ("object",)
_PREDICTED: Mapping[Part, Role] = {"class_logits": "head_cls", "boxes": "head_box"}


def reads(kind: type[Distiller]) -> dict[str, list[str]] | None:
    """`student` and `teacher` -> roles of taps (`neck`) and parts of the head, with the method's defaults.

    Of the first of these pairs that the method serves: two dense heads, two query heads, one of either. None where it
    serves none of them.
    """
    config = kind.config_type.model_validate({})
    for student, teacher in product((_dense(), _query()), repeat=2):
        pair = Pair(student, teacher, _CLASSES, (True,), _tail, (0,))
        if unmet(kind.requires, pair):
            continue
        try:
            with torch.random.fork_rng(devices=[]):  # adapters draw their first weights
                wiring = kind(config, pair).wiring
        except Exception:  # whatever a method of another package does with a pair that it should have refused
            continue
        return {"student": _told(wiring.student), "teacher": _told(wiring.teacher)}
    return None


def _told(needs: Needs) -> list[str]:
    """Each role once; attention of several layers once."""
    roles = [f"taps {role}" for role in get_args(Role) if any(tap.role == role for tap in needs.taps)]
    return roles + sorted({part.name if isinstance(part, Attention) else str(part) for part in needs.parts})


def _dense() -> Spec:
    head = DenseHead(_STRIDES, bins=16)
    towers = tuple(
        Tower(part, level, "one2many", (Tap(role, f"{role}.{stride}", stride, _WIDTH, part=part),))
        for part, role in _PREDICTED.items()
        for level, stride in enumerate(_STRIDES)
    )
    taps = tuple(Tap(role, f"{role}.{s}", s, _WIDTH, part=part) for part, role in _PREDICTED.items() for s in _STRIDES)
    return _spec(head, taps, towers)


def _query() -> Spec:
    head = QueryHead(layers=2, queries=8, width=_WIDTH, bins=16, strides=_STRIDES, gives=get_args(QueryPart))
    return _spec(head, ())


def _spec(head: Head, inside: tuple[Tap, ...], towers: tuple[Tower, ...] = ()) -> Spec:
    roles: tuple[Role, ...] = ("backbone", "neck")
    taps = tuple(Tap(role, f"{role}.{stride}", stride, _WIDTH) for role in roles for stride in _STRIDES)
    return Spec("none", f"{head.kind} detector", _CLASSES, 3, 32, (*taps, *inside), head, 0, towers)


def _tail(part: Part, level: int, cut: int, branch: Branch) -> Frozen:
    return Frozen(nn.Identity())
