"""A teacher that is asked once for the same images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.search.distillers.cached_teacher import CachedTeacher
from tests.distill.helpers import random_output, spec

SIDE = spec("a", (4, 6))
NEEDS = Needs(SIDE.taps, frozenset({"class_logits", "boxes"}))


class Counting:
    """Says something else each time."""

    def __init__(self) -> None:
        self.asked: list[Needs] = []

    def forward(self, images: Tensor, needs: Needs) -> DetectorOutput:
        self.asked.append(needs)
        return random_output(SIDE, batch=len(images), seed=len(self.asked))

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def test_the_same_images_are_asked_for_once_with_all_that_any_candidate_reads() -> None:
    teacher = Counting()
    kept = CachedTeacher(teacher, NEEDS)  # type: ignore[arg-type]
    images, others = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    first = kept.forward(images, Needs(SIDE.taps))
    assert kept.forward(images.clone(), Needs(parts=frozenset({"class_logits"}))) is first
    assert kept.forward(others, NEEDS) is not first
    assert teacher.asked == [NEEDS, NEEDS]


def test_beyond_its_memory_it_asks_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Two maps of 4 x 4 x 4 and 6 x 2 x 2 floats, 20 points with 3 classes and 4 x 5 bins, their places and
    strides; an image."""
    teacher, images = Counting(), torch.rand(1, 3, 32, 32)
    size = 4 * (64 + 24 + 20 * 3 + 20 * 20 + 20 * 2 + 20 + 3 * 32 * 32)
    kept = CachedTeacher(teacher, NEEDS, most_bytes=size)  # type: ignore[arg-type]
    first = kept.forward(images, NEEDS)
    assert kept.kept_bytes == size
    other = torch.rand(1, 3, 32, 32)
    assert kept.forward(other, NEEDS) is not kept.forward(other, NEEDS)
    assert kept.forward(images, NEEDS) is first and len(teacher.asked) == 3
    assert capsys.readouterr().err.count("of what the teacher says are kept; it is asked again for the rest") == 1


def test_what_no_kind_reads_is_a_fault() -> None:
    kept = CachedTeacher(Counting(), Needs(SIDE.taps))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="no kind of its space reads"):
        kept.forward(torch.rand(1, 3, 32, 32), NEEDS)
