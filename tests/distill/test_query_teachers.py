"""What DETR, DAB-DETR and Deformable DETR of transformers teach an RT-DETR, by every method that they serve."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from edgekd.detectors.contract import Detector
from edgekd.distill.contract import distiller_type
from edgekd.distill.requirements import unmet
from edgekd.errors import InputError
from tests.detectors.transformers.test_inside import detector_of

from .helpers import pair_of
from .query_scene import NAMES, made, step, student_of

pytest.importorskip("transformers", reason="the extra hf is not installed")

BOXES, POINTS, LEARNED = ("deformable-detr-two-stage-p", "dab-detr-p"), "deformable-detr-p", "detr-p"
WITHOUT_QUERIES: dict[str, dict[str, object]] = {"detrdistill": {"queries": 0}, "qskd": {}, "dlim": {}}
ALL: dict[str, dict[str, object]] = {**WITHOUT_QUERIES, "detrdistill": {}, "od_detr": {}, "kd_detr": {}}
SERVED = [
    *((model, name, keys) for model in BOXES for name, keys in ALL.items()),
    *((model, name, keys) for model in (POINTS, LEARNED) for name, keys in WITHOUT_QUERIES.items()),
]


@cache
def teacher_of(model: str) -> Detector:
    """As deep as the student."""
    frozen: Detector = detector_of(model, NAMES, decoder_layers=3).frozen()
    return frozen


@pytest.mark.parametrize(("model", "name", "keys"), SERVED, ids=str)
def test_it_teaches(model: str, name: str, keys: dict[str, object]) -> None:
    found = step(name, student_of(), teacher_of(model), **keys)
    assert unmet(distiller_type(name).requires, pair_of(student_of().spec, teacher_of(model).spec, NAMES)) == []
    total = sum(found.terms.values())
    assert isinstance(total, torch.Tensor)
    assert math.isfinite(total.detach())
    anchors = torch.autograd.grad(total, list(found.found.anchors.values()), allow_unused=True)
    assert any(one is not None and float(one.abs().sum()) > 0 for one in anchors)


@pytest.mark.parametrize("model", [POINTS, LEARNED])
def test_a_teacher_whose_queries_begin_without_a_box_asks_no_student(model: str) -> None:
    pair = pair_of(student_of().spec, teacher_of(model).spec, NAMES)
    reason = f"needs queries that begin with boxes on the teacher; student rtdetr-p has it, teacher {model} has none"
    assert unmet(distiller_type("od_detr").requires, pair) == [reason]
    with pytest.raises(InputError, match=f"detrdistill: queries {reason}; leave that part out with 'queries: 0'"):
        made("detrdistill", student_of(), teacher_of(model))
    assert any("a decoder that can be asked" in one for one in unmet(distiller_type("kd_detr").requires, pair))
