"""Samples of the engine's train split as a function of seed, image and view, whatever was drawn before.

The engine draws from the global generators of python, numpy and torch, one sample after the other, and makes mosaics of
images that it loaded of late. Here the three are seeded for each sample and put back afterwards, partners in a mosaic
come from the whole split, and an image that is handed out is a copy, since the engine changes colours in place. What is
hooked is the data set that a training has made, so that other data sets stay as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeAlias

import numpy as np
import torch

from edgekd.errors import EdgekdError
from edgekd.training.engines.protocol import EngineData
from edgekd.training.knowledge import RECORDS
from edgekd.training.store.store import Reader
from edgekd.training.views import Views, coded, decoded

Sample: TypeAlias = dict[str, Any]


def install(loader: Any, seed: int, reader: Reader | None = None) -> None:
    """From now on the engine's loader gives the samples of (view, image) for numbers of `views.coded`.

    Args:
        reader: whose record of each sample comes with it.
    """
    data: EngineData = loader.dataset
    data.load_image = _Copied(data.load_image)
    data.build_transforms = _Built(data.build_transforms)
    _forget_history(data.transforms)
    data.__getitems__ = _Samples(data, seed, reader)
    loader.collate_fn = _Collated(loader.collate_fn)


class Numbered:
    """The engine's endless batches of image numbers as numbers of samples: a view for each epoch."""

    def __init__(self, batches: Any, views: Views, images: int, per_epoch: int, first_epoch: int) -> None:
        """`first_epoch`: that of the first batch, which begins one."""
        self._batches, self._views, self._images = iter(batches), views, images
        self._per_epoch, self._first, self._given = per_epoch, first_epoch, 0

    def __iter__(self) -> Iterator[list[int]]:
        return self

    def __next__(self) -> list[int]:
        indices = next(self._batches)
        view = self._views.of_epoch(self._first + self._given // self._per_epoch)
        self._given += 1
        return [coded(view, index, self._images) for index in indices]


class Failed:
    """In the place of a batch: why a worker could not make it, so that the error stays one line."""

    def __init__(self, error: EdgekdError) -> None:
        self.kind, self.problems = type(error), error.problems

    def raised(self) -> None:
        """Raise it in this process."""
        raise self.kind(*self.problems)


class _Samples:
    """Makes a batch's samples."""

    def __init__(self, data: EngineData, seed: int, reader: Reader | None) -> None:
        self._data, self._seed, self._reader = data, seed, reader

    def __call__(self, codes: Sequence[int]) -> list[Sample] | list[Failed]:
        try:
            samples = [self._sample(code) for code in codes]
            if self._reader is not None:
                samples[0][RECORDS] = self._records(self._reader, codes)
        except EdgekdError as error:
            return [Failed(error)]
        return samples

    def _sample(self, code: int) -> Sample:
        view, index = decoded(code, len(self._data))
        with _drawn_from(view.seed(self._seed, index)):
            sample: Sample = self._data[index]
        return sample

    def _records(self, reader: Reader, codes: Sequence[int]) -> torch.Tensor:
        """Of the whole batch, in its order: (B, bytes)."""
        records = np.empty((len(codes), reader.record_bytes), np.uint8)
        for code, record in zip(codes, records, strict=True):
            reader.read(*decoded(code, len(self._data)), record)
        return torch.from_numpy(records)


class _Collated:
    """The engine's batch, with the records beside it, which came with the first sample."""

    def __init__(self, collate: Callable[[list[Sample]], Sample]) -> None:
        self._collate = collate

    def __call__(self, samples: list[Sample] | list[Failed]) -> Sample | Failed:
        if isinstance(samples[0], Failed):
            return samples[0]
        records = samples[0].pop(RECORDS, None)
        batch = self._collate(samples)  # type: ignore[arg-type]
        return batch if records is None else {**batch, RECORDS: records}


class _Copied:
    """Images as nobody has changed them."""

    def __init__(self, load: Callable[..., Any]) -> None:
        self._load = load

    def __call__(self, *given: Any, **named: Any) -> Any:
        image, *sizes = self._load(*given, **named)
        return (image.copy(), *sizes)


class _Built:
    """Transforms without history, as the engine builds them anew where it ends the mosaic."""

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build

    def __call__(self, *given: Any, **named: Any) -> Any:
        transforms = self._build(*given, **named)
        _forget_history(transforms)
        return transforms


def _forget_history(transform: Any) -> None:
    """Partners in a mosaic from the whole split instead of from what was loaded of late."""
    if transform is None:
        return
    for part in getattr(transform, "transforms", ()) if type(transform).__name__ == "Compose" else ():
        _forget_history(part)
    if hasattr(transform, "buffer_enabled"):
        transform.buffer_enabled = False
    _forget_history(getattr(transform, "pre_transform", None))


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """Everything that is drawn during the block follows from `seed`; afterwards nothing was drawn."""
    python, numpy, generator = random.getstate(), np.random.get_state(), torch.default_generator
    state = generator.get_state()
    try:
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        generator.manual_seed(seed)  # of the CPU alone; albumentations seeds its own by what this says
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        generator.set_state(state)


def versions() -> dict[str, str]:
    """Of what makes the samples: another one may draw or resize otherwise."""
    import cv2

    return {"ultralytics": version("ultralytics"), "opencv": cv2.__version__}


def refused(train: dict[str, Any]) -> list[str]:
    """Why the augmentation of these arguments cannot be shown again."""
    if train.get("multi_scale"):
        return [
            "train.multi_scale: the size of a batch is drawn for all its images together, so no image can be shown "
            "again; set it to 0, or use teacher.knowledge: online"
        ]
    return []
