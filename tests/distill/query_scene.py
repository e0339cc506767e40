"""Two small RT-DETRs on a few images, so that methods on queries can be tested with decoders that answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.detectors import families
from edgekd.detectors.capture import run
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Asked, Detector, Trainable
from edgekd.detectors.outputs import Batch, Guidance, TrainingPass
from edgekd.distill.contract import Distiller, Pair, distiller_type
from edgekd.distill.requirements import query_distributions
from edgekd.training.engines.batch import batch_of
from edgekd.training.engines.shell import introduce, network_of

from .helpers import moment

NAMES = ("one", "two", "three")
OBJECTS = ((0, 0, 0.3, 0.3, 0.3, 0.4), (0, 2, 0.7, 0.6, 0.4, 0.5), (2, 1, 0.4, 0.6, 0.5, 0.3))


def batch(objects: tuple[tuple[float, ...], ...] = OBJECTS, count: int = 3, copies: int = 1) -> Batch:
    """`count` images of 64 px, the second without an object, as the engine hands them out; `copies` times in a row."""
    rows = torch.tensor(objects).reshape(-1, 6)
    rows = torch.cat([torch.cat([rows[:, :1] + copy * count, rows[:, 1:]], 1) for copy in range(copies)])
    images = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(2)).repeat(copies, 1, 1, 1)
    return batch_of({"img": images, "batch_idx": rows[:, 0], "cls": rows[:, 1:2], "bboxes": rows[:, 2:]})


@cache
def opened(model: str, names: tuple[str, ...] = NAMES) -> Detector:
    """One whose boxes move and whose scores differ, as after a training."""
    torch.manual_seed(len(model) + ord(model[-1]))
    detector = families.open_detector("ultralytics", Asked(model, None, names, 3, "test"))
    head: Any = detector.module.model[-1]
    if detector.spec.head.kind == "query":
        for layer, scores in zip(head.dec_bbox_head, head.dec_score_head, strict=True):
            nn.init.normal_(layer.layers[-1].weight, std=0.1)
            nn.init.normal_(scores.weight, std=0.3)
            nn.init.constant_(scores.bias, -1.0)
    return detector


def student_of(model: str = "rtdetr-p") -> Trainable:
    """In training mode; its own weights, which tests may give gradients."""
    detector = families.trainable(opened(model), "test")
    detector.module.train().requires_grad_(True).zero_grad()
    introduce(network_of(detector, NAMES), NAMES)
    return detector


@cache
def teacher_of(model: str = "rtdetr-n", names: tuple[str, ...] = NAMES) -> Detector:
    """Frozen; wider than the student."""
    return opened(model, names).frozen()


@cache
def _with_distributions(model: str, names: tuple[str, ...] = NAMES) -> Detector:
    """Of transformers, which is needed."""
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    torch.manual_seed(len(model))
    return families.open_detector("transformers", Asked(model, None, names, 3, "test"))


def pair_for(method: str, names: tuple[str, ...] = NAMES) -> tuple[Trainable, Detector]:
    """That it serves, the teacher with classes `names`: RT-DETRs, or D-FINE and DEIMv2 for box distributions."""
    if query_distributions not in distiller_type(method).requires:
        return student_of(), teacher_of("rtdetr-n", names)
    student = families.trainable(_with_distributions("dfine-p"), "test")
    student.module.train().requires_grad_(True).zero_grad()
    return student, _with_distributions("deimv2-p", names).frozen()


@dataclass
class Step:
    """One step of a method.

    Attributes:
        found: the student's pass.
        knowledge: what the method kept of the teacher.
        terms: of the method.
    """

    method: Distiller
    found: TrainingPass
    knowledge: Mapping[str, Tensor]
    terms: Mapping[str, Tensor]


def made(name: str, student: Detector, teacher: Detector, **config: object) -> Distiller:
    """A method for a pair, with seeded adapters."""
    kind = distiller_type(name)
    columns = ClassMap.by_name(teacher.spec.class_names, NAMES).columns
    torch.manual_seed(5)
    return kind(kind.config_type.model_validate(config), Pair.of(student.spec, teacher, columns, NAMES))


def known(method: Distiller, teacher: Detector, given: Batch) -> dict[str, Tensor]:
    """What it keeps of a teacher, with classes in the order of the data."""
    with torch.no_grad():
        output = ClassMap.by_name(teacher.spec.class_names, NAMES).apply(
            run(teacher, given.images, method.wiring.teacher)
        )
        return {key: value.detach() for key, value in method.knowledge(output, given).items()}


def step(
    name: str,
    student: Trainable | None = None,
    teacher: Detector | None = None,
    given: Batch | None = None,
    **config: object,
) -> Step:
    """Knowledge, a training pass with random numbers that are always the same, and terms."""
    student, teacher, given = student or student_of(), teacher or teacher_of(), given or batch()
    method = made(name, student, teacher, **config)
    kept = known(method, teacher, given)
    torch.manual_seed(3)
    found = student.training_pass(given, method.wiring.student, Guidance())
    return Step(method, found, kept, method.terms(found.output, kept, given, moment()))
