"""Real steps of UniKD: between networks of all families, in mixed precision, without objects, accumulated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors import families
from edgekd.detectors.capture import run
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.outputs import Batch
from edgekd.distill.contract import Moment, Pair
from edgekd.distill.query.keys import UniKDConfig
from edgekd.distill.query.unikd import UniKD
from tests.training.steps import batch_of, module_of, step

SMALL: dict[str, Any] = {"queries": 8, "width": 16}
PAIRS = [
    ("yolo11p", "rtmdet-p"), ("rtmdet-p", "yolo11p"), ("rtdetr-p", "yolo26p"), ("yolo11p", "rtdetr-p"),
    ("retinanet-p", "yolo11p"), ("fasterrcnn-p", "rtmdet-p"),
]  # fmt: skip


def opened(model: str, names: tuple[str, ...]) -> Detector:
    torch.manual_seed(0)
    family = next(name for name in families.family_names() if model in families.family(name).models())
    return families.open_detector(family, Asked(model, None, names, 3, model))


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_any_family_learns_from_any(teacher: str, student: str) -> None:
    """Levels, strides, widths and classes may differ; gradients reach the student's neck."""
    theirs, ours = opened(teacher, CLASS_NAMES[:4]), opened(student, CLASS_NAMES)
    columns = [*range(4), *[-1] * 6]
    method = UniKD(UniKDConfig(**SMALL), Pair.of(ours.spec, theirs, columns, CLASS_NAMES))
    torch.manual_seed(1)
    images = torch.rand(2, 3, 64, 64)
    boxes = torch.tensor([[4.0, 4, 20, 20], [30, 30, 60, 50]])
    batch = Batch(images, torch.tensor([0, 0]), torch.tensor([1, 9]), boxes)
    with torch.no_grad():
        output = run(theirs.frozen(), images, method.wiring.teacher)
        knowledge = method.knowledge(output, batch)
    preparation = method.preparation()
    assert preparation.knowledge is not None
    absorbed = preparation.loss(preparation.knowledge(output, batch), batch, torch.Generator().manual_seed(0))
    assert all(value.isfinite() and value > 0 for value in absorbed.values())  # classes are those of the data
    ours.module.train()
    seen = run(ours, images, method.wiring.student)
    found = method.terms(seen, knowledge, batch, Moment(0, 0.0, 1, torch.Generator()))
    taps = list(seen.taps.values())
    gradients = torch.autograd.grad(torch.stack(list(found.values())).sum(), taps)
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)


def test_mixed_precision_gives_nearly_the_same(tiny_digits: Path) -> None:
    """The student's maps are rounded; extractors and adapter compute in float32."""
    batch = batch_of(tiny_digits)
    full, half = (step(module_of({"unikd": SMALL}), batch, amp=amp).terms for amp in (None, torch.bfloat16))
    for name in ("kd/unikd.content", "kd/unikd.positional"):
        assert half[name].item() == pytest.approx(full[name].item(), rel=0.03)


def test_a_batch_without_objects(tiny_digits: Path) -> None:
    batch = batch_of(tiny_digits, size=2)
    empty = {**batch, "cls": batch["cls"][:0], "bboxes": batch["bboxes"][:0], "batch_idx": batch["batch_idx"][:0]}
    found = step(module_of({"unikd": SMALL}), empty)
    assert found.total.isfinite() and all(value.isfinite().all() for value in found.gradients.values())
    assert found.terms["kd/unikd.content"] > 0 and found.terms["kd/unikd.positional"] > 0


def part(batch: dict[str, Tensor], first: int, behind: int) -> dict[str, Tensor]:
    """Some images of a batch."""
    chosen = (batch["batch_idx"] >= first) & (batch["batch_idx"] < behind)
    rows = {key: batch[key][chosen] for key in ("cls", "bboxes")}
    return {"img": batch["img"][first:behind], **rows, "batch_idx": batch["batch_idx"][chosen] - first}


def test_accumulated_halves_are_the_whole(tiny_digits: Path) -> None:
    """Two steps of half a batch, whose means are taken, have the terms of one; so have two ranks.

    The student's batch norms see halves, so its average alone could not be the same: they are frozen here.
    """
    batch = batch_of(tiny_digits, size=4)

    def terms(images: dict[str, Tensor]) -> dict[str, float]:
        module = module_of({"unikd": SMALL})
        for layer in module.student.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.eval()
        found = step(module, images).terms
        return {name: value.item() for name, value in found.items() if name.startswith("kd/")}

    whole = terms(batch)
    halves = [terms(part(batch, first, first + 2)) for first in (0, 2)]
    assert set(whole) == {"kd/unikd.content", "kd/unikd.positional"}
    for name, value in whole.items():
        assert sum(half[name] for half in halves) / 2 == pytest.approx(value, rel=1e-3)
