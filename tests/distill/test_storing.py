"""Every method there is can be stored, with the terms that it has online, or is refused with a reason; none fails."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgekd.detectors.outputs import Batch, DetectorOutput, Guidance
from edgekd.distill.contract import Distiller, distiller_names
from edgekd.distill.packing import Block, Storage
from edgekd.errors import InputError
from edgekd.stages import storable
from edgekd.training.knowledge import Knowledge
from edgekd.training.store.fill import blocks_of

from .helpers import moment, pair_of, random_output
from .query_scene import batch as query_batch
from .query_scene import known, made, pair_for
from .test_methods import METHODS, QUERY_METHODS, STUDENT, TEACHER, of, scene_of
from .test_methods import build as built

DENSE = [*METHODS, "lad"]
MORE_THAN_TENSORS = {"crosskd", "gkd"}
NO_FIXED_SIZE = {"clockdistill", "dsig", "gdetkd", "mimic"}
NOTHING = {"head_assistant"}  # labels alone
WITHIN: dict[Storage, float] = {"fp32": 1e-5, "fp16": 2e-3, "int8": 0.05}  # relative, of every term
CHOICES = {"dyolo": 0.1}  # of few boxes here, one is chosen or not as overlaps round


class Source:
    """Random teachers that answer for whatever images they are shown."""

    teachers = ()
    told = ""

    def of(self, distillers: Sequence[Distiller], batch: Batch, acting: Sequence[bool]) -> list[Knowledge | None]:
        return [of_teacher(part, batch) for part in distillers]


def of_teacher(method: Distiller, batch: Batch) -> Knowledge:
    if method.name in QUERY_METHODS:
        return known(method, pair_for(method.name)[1], batch)
    with torch.no_grad():
        found = method.knowledge(random_output(TEACHER, batch=batch.size, seed=1), batch)
        return {key: value.detach() for key, value in found.items()}


def method_of(variant: str) -> Distiller:
    if variant in QUERY_METHODS:
        return made(variant, *pair_for(variant))
    return of(variant) if variant in METHODS else built(variant, STUDENT, TEACHER)


def refused(variant: str, method: Distiller) -> list[str]:
    """Why `check` refuses it, of the reasons that need no image."""
    query = variant in QUERY_METHODS
    pair = pair_of(*(side.spec for side in pair_for(variant))) if query else pair_of(STUDENT, TEACHER)
    detectors: Any = SimpleNamespace(of_methods=lambda _: pair)
    return storable.reasons(detectors, method.name, method.config)


def block_of(method: Distiller, storage: Storage) -> Block:
    side_px = 64 if method.name in QUERY_METHODS else 32
    (block,) = blocks_of([method], Source(), torch.full((2, 3, side_px, side_px), 0.5), 3, storage, 0)  # type: ignore[arg-type]
    return block


def output_of(method: Distiller, batch: Batch) -> DetectorOutput:
    if method.name not in QUERY_METHODS:
        return random_output(STUDENT, batch=batch.size)
    torch.manual_seed(3)
    return pair_for(method.name)[0].training_pass(batch, method.wiring.student, Guidance()).output


def test_all_methods_are_here() -> None:
    assert {variant.split()[0] for variant in DENSE} | set(QUERY_METHODS) == set(distiller_names())


@pytest.mark.parametrize("variant", [*DENSE, *QUERY_METHODS])
def test_a_method_is_stored_or_refused_with_a_reason(variant: str) -> None:
    method = method_of(variant)
    reasons = refused(variant, method)
    assert bool(reasons) == (method.name in MORE_THAN_TENSORS), reasons
    if reasons:
        return
    if method.name in NO_FIXED_SIZE:
        with pytest.raises(InputError) as error:
            block_of(method, "fp32")
        (problem,) = error.value.problems
        assert problem.startswith(f"{method.name}: its knowledge '") and "has another size for other images" in problem
        return
    batch = query_batch() if variant in QUERY_METHODS else scene_of(method)
    kept = of_teacher(method, batch)
    if method.name in NOTHING:
        assert block_of(method, "fp32").fields == () and not kept and block_of(method, "fp32").unpack(
            torch.zeros(2, 0, dtype=torch.uint8)
        ) == {}  # fmt: skip
        return
    output = output_of(method, batch)
    for storage, within in WITHIN.items():
        block = block_of(method, storage)
        read = block.unpack(block.pack(kept, method.name))
        assert read.keys() == kept.keys()
        if method.guides:
            continue
        with torch.no_grad():
            online, offline = (method.terms(output, one, batch, moment()) for one in (kept, read))
        for name, value in online.items():
            most = within if storage == "fp32" else max(within, CHOICES.get(variant, 0.0))
            assert float(offline[name]) == pytest.approx(float(value), rel=most, abs=1e-6), (storage, name)
