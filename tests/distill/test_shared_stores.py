"""What may differ between recipes that share a store: the keys of a method that do not decide what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from pydantic import ValidationError

from edgekd.distill.config import DistillerConfig, FeatureConfig
from edgekd.distill.contract import Distiller, distiller_type
from edgekd.distill.packing import Block
from edgekd.errors import InputError

from .helpers import batch_of, build, moment, random_output
from .query_scene import batch as query_batch
from .query_scene import made, pair_for
from .test_methods import METHODS, QUERY_METHODS, STUDENT, TEACHER, of, scene_of
from .test_storing import MORE_THAN_TENSORS, NO_FIXED_SIZE, of_teacher

NAMES = [
    variant
    for variant in sorted({*METHODS, "lad", *QUERY_METHODS})
    if variant.split()[0] not in MORE_THAN_TENSORS | NO_FIXED_SIZE
]


def built(variant: str, **keys: Any) -> Distiller:
    keys = {**METHODS.get(variant, {}), **keys}
    name = variant.split(maxsplit=1)[0]
    if variant in QUERY_METHODS:
        return made(variant, *pair_for(variant), **keys)
    return build(name, STUDENT, TEACHER, **keys)


def others(kind: type[DistillerConfig], key: str, value: Any) -> Iterator[Any]:
    """Values that a key may have instead, some of them refused."""
    annotation = kind.model_fields[key].annotation
    if get_origin(annotation) is Literal:
        yield from (one for one in get_args(annotation) if one != value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1, value + 2, max(value // 2, 1))
    elif isinstance(value, float):
        yield from (value * 0.5, value + 0.25, 0.125)


def variants(name: str) -> Iterator[tuple[str, Distiller]]:
    """The method with one key changed each, of those keys that are said not to decide."""
    kind, base = distiller_type(name.split(maxsplit=1)[0]), built(name).config
    decide = kind.decided_by or frozenset()
    for key in set(kind.config_type.model_fields) - set(FeatureConfig.model_fields) - decide:
        value = getattr(base, key)
        for other in others(kind.config_type, key, value):
            if key in kind.switches and not (value and other):
                continue
            try:
                yield f"{key}={other}", built(name, **{key: other})
            except (ValidationError, InputError):
                continue


@pytest.mark.parametrize("name", NAMES)
def test_keys_that_do_not_decide_change_nothing_of_what_is_kept(name: str) -> None:
    method = built(name)
    kind = type(method)
    assert (kind.decided_by or frozenset()) | kind.switches <= set(kind.config_type.model_fields)
    batch = query_batch() if name in QUERY_METHODS else scene_of(method)
    kept = of_teacher(method, batch)
    for changed, other in variants(name):
        found = of_teacher(other, batch)
        same = found.keys() == kept.keys() and all(torch.equal(found[key], value) for key, value in kept.items())
        assert same or other.wiring.teacher != method.wiring.teacher, changed


def test_what_is_kept_of_unikd_is_said_by_what_decides_its_extractors() -> None:
    """Layers of the student's adapter, and factors above 0, are the student's own affair."""
    one = built("unikd")
    for keys in ({"adapter_layers": 0}, {"content": 3.0}, {"negatives": False}):
        kept, other = of_teacher(one, scene_of(one)), of_teacher(built("unikd", **keys), scene_of(one))
        assert all(torch.equal(other[key], value) for key, value in kept.items())
    assert "adapter_layers" not in (type(one).decided_by or ())
    assert type(one).switches == {"content", "positional"}


@pytest.mark.parametrize("name", ["logit", "ld", "dyolo"])
def test_points_that_are_left_out_have_no_weight(name: str) -> None:
    """Of 20 points of an image 6 are kept: the terms are those of a teacher that is sure of nothing elsewhere."""
    method, batch = of(name), batch_of()
    kept = dict(of_teacher(method, batch))
    sure = kept["confidence:one2many"]
    best = torch.zeros_like(sure).scatter(1, sure.topk(6, 1).indices, 1.0)
    block = Block.of(kept, method.stored, "fp32", 6)
    assert block.size_bytes < Block.of(kept, method.stored, "fp32", 0).size_bytes / 2
    student = random_output(STUDENT)
    with torch.no_grad():
        read = method.terms(student, block.unpack(block.pack(kept, name)), batch, moment())
        alone = method.terms(student, {**kept, "confidence:one2many": sure * best}, batch, moment())
    assert all(float(value) > 0 for value in alone.values())
    for term, value in alone.items():
        assert float(read[term]) == pytest.approx(float(value), rel=1e-5)
