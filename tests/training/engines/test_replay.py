"""A replayed epoch shows the images that were stored, bit for bit, whatever order, history and workers there are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors import families
from edgekd.detectors.contract import Asked
from edgekd.training.engines.patches import patched
from edgekd.training.engines.samples import TrainSamples
from edgekd.training.plan import FitPlan
from edgekd.training.views import View, Views

from ..helpers import TRAIN

IMAGES = 24
EVERYTHING = {
    "mosaic": 0.7, "mixup": 0.5, "cutmix": 0.3, "degrees": 10.0, "translate": 0.1, "scale": 0.5, "flipud": 0.3,
    "fliplr": 0.5, "hsv_h": 0.1, "hsv_s": 0.7, "hsv_v": 0.4, "bgr": 0.3,
}  # fmt: skip
COLOURS = {"mosaic": 0.0, "translate": 0.0, "scale": 0.0, "fliplr": 0.0, "hsv_s": 0.7, "hsv_v": 0.4}  # in place


def plan(data: Path, views: Views, student: tuple[str, str] = ("ultralytics", "yolo11p"), **train: Any) -> FitPlan:
    arguments = {**TRAIN, "epochs": views.epochs, "close_mosaic": views.closing, **train}
    family, model = student
    opened = families.open_detector(family, Asked(model, None, CLASS_NAMES, 3, "student"))
    return FitPlan(families.trainable(opened, "student"), False, data, arguments, None, 0, 1, views=views)


def stored(samples: TrainSamples, views: Views) -> dict[tuple[View, int], Tensor]:
    """Every view of every image, in order."""
    found = {}
    for closed in (False, True):
        groups = [
            (view, range(first, first + 6))
            for view in views.all()
            if view.closed == closed
            for first in range(0, IMAGES, 6)
        ]
        for (view, indices), batch in zip(groups, samples.batches(groups) if groups else (), strict=True):
            found |= {(view, index): image for index, image in zip(indices, batch.images, strict=True)}
    return found


def trained_on(samples: TrainSamples, views: Views, first: int = 0) -> Iterator[tuple[int, Any]]:
    """(epoch, batch) as the engine's loop asks for them."""
    trainer, loader, closed = samples._trainer, samples._loader, False
    with patched():
        for epoch in range(first, views.epochs):
            trainer.epoch = epoch
            if views.closing and epoch >= views.epochs - views.closing and not closed:
                closed = True
                loader.dataset.close_mosaic(hyp=trainer.args)
                loader.reset()
            for batch in loader:
                random.random(), np.random.rand(), torch.rand(1)  # what a step may draw
                yield epoch, batch


def indices(batch: Any) -> list[int]:
    return [int(Path(name).name[:6]) - 1 for name in batch["im_file"]]


def assert_shown(found: dict[tuple[View, int], Tensor], epochs: Iterator[tuple[int, Any]], views: Views) -> int:
    count = 0
    for epoch, batch in epochs:
        for index, image in zip(indices(batch), batch["img"], strict=True):
            assert torch.equal(image.float() / 255, found[views.of_epoch(epoch), index]), (epoch, index)
            count += 1
    return count


@pytest.mark.parametrize("augmentation", [EVERYTHING, COLOURS], ids=["everything", "colours in place"])
def test_epochs_show_what_was_stored(tiny_digits: Path, tmp_path: Path, augmentation: dict[str, float]) -> None:
    views = Views(2, 5, 6, closing=3)
    made = stored(TrainSamples(plan(tiny_digits, views, **augmentation), tmp_path / "store"), views)
    assert len(made) == 4 * IMAGES
    assert not torch.equal(made[View(0), 3], made[View(1), 3])
    again = TrainSamples(plan(tiny_digits, views, **augmentation, cache="ram"), tmp_path / "train")
    assert assert_shown(made, trained_on(again, views), views) == 6 * IMAGES


@pytest.mark.parametrize("student", [("rtmdet", "rtmdet-p"), ("ultralytics", "rtdetr-p")], ids=["rtmdet", "rtdetr"])
def test_students_of_other_families_are_shown_what_was_stored(
    tiny_digits: Path, tmp_path: Path, student: tuple[str, str]
) -> None:
    """Whatever their trainers do to the engine's data set; images of RT-DETR are stretched."""
    views = Views(2, 5, 4, closing=2)
    made = stored(TrainSamples(plan(tiny_digits, views, student, **EVERYTHING), tmp_path / "store"), views)
    assert len(made) == 4 * IMAGES and not torch.equal(made[View(0), 3], made[View(1), 3])
    again = TrainSamples(plan(tiny_digits, views, student, **EVERYTHING), tmp_path / "train")
    assert assert_shown(made, trained_on(again, views), views) == 4 * IMAGES


def test_views_do_not_depend_on_the_trainings_seed_but_on_their_own(tiny_digits: Path, tmp_path: Path) -> None:
    views = Views(1, 0, 1)
    first, other, own = (
        stored(TrainSamples(replace(plan(tiny_digits, one, **EVERYTHING), seed=seed), tmp_path / str(place)), one)
        for place, (one, seed) in enumerate([(views, 0), (views, 9), (replace(views, seed=1), 0)])
    )
    assert all(torch.equal(image, other[key]) for key, image in first.items())
    assert sum(torch.equal(image, own[key]) for key, image in first.items()) < IMAGES / 4


def test_a_training_that_goes_on_is_shown_the_same(tiny_digits: Path, tmp_path: Path) -> None:
    views = Views(3, 0, 4)
    one = TrainSamples(plan(tiny_digits, views, **EVERYTHING), tmp_path / "one")
    whole, kept = [], None
    for place, (_, batch) in enumerate(trained_on(one, views)):
        if place == 4:  # the second batch of the second epoch of three batches is out
            kept = one._loader.position()
        whole.append(batch["img"])
    assert kept is not None and kept["taken"] == 5 and kept["index"] == 2
    other = TrainSamples(plan(tiny_digits, views, **EVERYTHING), tmp_path / "other")
    other._trainer.epoch = 1
    other._loader.first_batch = kept["index"]
    other._loader.seek(kept)
    rest = [batch["img"] for _, batch in trained_on(other, views, first=1)]
    assert len(rest) == len(whole) - 5
    assert all(torch.equal(image, same) for image, same in zip(whole[5:], rest, strict=True))


def test_workers_give_the_same_and_random_states_stay_where_they_are(tiny_digits: Path, tmp_path: Path) -> None:
    views = Views(2, 0, 2)
    alone = TrainSamples(plan(tiny_digits, views, **EVERYTHING), tmp_path / "alone")
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # type: ignore[unused-coroutine]
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    made = stored(alone, views)
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    several = TrainSamples(plan(tiny_digits, views, **EVERYTHING), tmp_path / "several")
    several._loader._loader.num_workers = 2
    several._loader._loader.prefetch_factor = 4
    assert assert_shown(made, trained_on(several, views), views) == 2 * IMAGES
    several._loader.reset()
