"""The survey that a method gets when an epoch begins: both sides on the train images, undisturbed and undisturbing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekd import ranks
from edgekd.data.letterbox import letterbox, load_image, to_letterboxed
from edgekd.detectors.capture import run
from edgekd.detectors.contract import Trainable
from edgekd.detectors.outputs import Batch, View
from edgekd.detectors.spec import Needs
from edgekd.distill.contract import Distiller, Observation
from edgekd.progress import progress
from edgekd.types import FloatArray


@dataclass(frozen=True)
class TrainImage:
    """One image of the train split.

    Attributes:
        boxes: (n, 4), centre and size as shares of the image's sides.
        class_ids: (n,) int64.
    """

    path: Path
    boxes: FloatArray
    class_ids: Any
    labelled: bool = True


@dataclass(frozen=True)
class TrainImages:
    """The train split as it is, and how to look at it.

    Attributes:
        images: in the order of the split.
        size_px: side of the square that they are fitted into.
        batch: images in a pass.
        device: of the student.
        precision: makes the context that the student's training forward runs in.
    """

    images: Sequence[TrainImage]
    size_px: int
    channels: int
    batch: int
    device: torch.device
    precision: Callable[[], AbstractContextManager[Any]]

    def batches(self) -> Iterator[Batch]:
        """This process's images: every n-th of the split."""
        own = range(ranks.rank(), len(self.images), ranks.size())
        for start in range(0, len(own), self.batch):
            yield self._batch(own[start : start + self.batch])

    def _batch(self, places: Sequence[int]) -> Batch:
        pixels, contents, boxes, classes, owners = [], [], [], [], []
        for number, place in enumerate(places):
            image = self.images[place]
            original = load_image(image.path, self.channels)
            fitted, geometry = letterbox(original, (self.size_px, self.size_px))
            height, width = original.shape[:2]
            corners = np.array([[0, 0, width, height]], np.float32)
            contents.append(to_letterboxed(corners, geometry)[0])
            boxes.append(to_letterboxed(_corners(image.boxes, width, height), geometry))
            classes.append(image.class_ids)
            owners += [number] * len(image.boxes)
            pixels.append(torch.from_numpy(fitted).permute(2, 0, 1))
        labelled = [self.images[place].labelled for place in places]
        return Batch(
            images=torch.stack(pixels).to(self.device).float() / 255,
            image_index=torch.tensor(owners, dtype=torch.int64, device=self.device),
            class_ids=torch.from_numpy(np.concatenate(classes)).to(self.device),
            boxes_px=torch.from_numpy(np.concatenate(boxes)).to(self.device),
            shown=View(
                image_ids=torch.tensor(places, device=self.device),
                content_px=torch.from_numpy(np.stack(contents)).to(self.device),
                mixed=torch.zeros(len(places), dtype=torch.bool, device=self.device),
                labelled=torch.tensor(labelled, device=self.device),
                all_labelled=all(labelled),
            ),
        )


class TrainSurvey:
    """`Survey` of one method."""

    def __init__(
        self,
        split: TrainImages,
        student: Trainable,
        part: Distiller,
        knowledge: Callable[[Batch], Mapping[str, Tensor]],
        title: str,
    ) -> None:
        """`title`: of the progress that is shown."""
        self._split, self._student, self._knowledge, self._title = split, student, knowledge, title
        read = part.wiring.student
        self._needs: Needs = replace(read, parts=read.parts - {"assignment"})  # which only a training pass has

    def __len__(self) -> int:
        return len(self._split.images)

    def __iter__(self) -> Iterator[Observation]:
        """See `Survey.__iter__`."""
        with progress(self._title, len(self), within=True) as advance:
            for batch in self._split.batches():
                with torch.no_grad(), self._split.precision():
                    student = run(self._student, batch.images, self._needs)
                    knowledge = self._knowledge(batch)
                yield Observation(student, knowledge, batch)
                advance(batch.size * ranks.size())

    def gathered(self, image_ids: Tensor, values: Tensor) -> Tensor:
        """See `Survey.gathered`."""
        found = ranks.gather((image_ids.cpu(), values.cpu()))
        ids, rows = ranks.broadcast(tuple(torch.cat(parts) for parts in zip(*found, strict=True)) if found else ())
        return rows[torch.argsort(ids, stable=True)].to(values.device)


@contextmanager
def undisturbed(student: nn.Module, device: torch.device) -> Iterator[None]:
    """The student in eval mode during the block; afterwards every mode and every random state is what it was."""
    training = [part for part in student.modules() if part.training]
    python, numpy = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        devices = [device.index or 0] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.enter_context(torch.no_grad())
        student.eval()
        try:
            yield
        finally:
            for part in training:
                part.training = True
            random.setstate(python)
            np.random.set_state(numpy)


def _corners(boxes: FloatArray, width: int, height: int) -> FloatArray:
    """Centre and size as shares to x1 y1 x2 y2 in pixels."""
    sides = np.array([width, height, width, height], np.float32)
    scaled = np.asarray(boxes, np.float32).reshape(-1, 4) * sides
    half = scaled[:, 2:] / 2
    corners: FloatArray = np.concatenate([scaled[:, :2] - half, scaled[:, :2] + half], 1)
    return corners
