"""Train images for quantisation: the same each time, and never the same for both uses."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.data.calibration import accuracy_split, calibration_split
from edgekd.errors import InputError
from edgekd.types import GroundTruth, Split


def train(count: int, boxes: int = 1) -> Split:
    images = [
        GroundTruth(
            10 * index + 3, f"{index}.png", 8, 8, np.zeros((boxes, 4), np.float32), np.zeros(boxes, np.int64),
            np.zeros(boxes, np.bool_),
        )
        for index in range(count)
    ]  # fmt: skip
    return Split("train", "/images", images, "5eed" * 16)


def ids(split: Split) -> list[int]:
    return [image.image_id for image in split.images]


@pytest.mark.parametrize(("count", "measured"), [(2, 1), (25, 12), (799, 399), (800, 400), (5000, 400)])
def test_both_parts_are_disjoint_and_of_the_promised_size(count: int, measured: int) -> None:
    whole = train(count)
    accuracy, calibration = accuracy_split(whole), calibration_split(whole, count - measured)
    assert len(accuracy.images) == measured
    assert sorted(ids(accuracy) + ids(calibration)) == ids(whole)


def test_fewer_images_are_a_part_of_more_and_no_matter_for_accuracy() -> None:
    few, more = calibration_split(train(500), 16), calibration_split(train(500), 64)
    assert set(ids(few)) < set(ids(more))
    assert few.content_hash != more.content_hash
    assert not set(ids(more)) & set(ids(accuracy_split(train(500))))


def test_the_choice_is_the_same_each_time_and_in_the_order_of_the_split() -> None:
    first, second = (calibration_split(train(500), 32) for _ in range(2))
    assert (ids(first), first.content_hash) == (ids(second), second.content_hash)
    assert ids(first) == sorted(ids(first))
    spread = np.diff([0, *ids(first), 5000])
    assert spread.max() < 1000  # over the whole split, not one end of it


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_to_measure(count: int) -> None:
    with pytest.raises(InputError, match=f"train: has {count} images; .* add images, or export in fp32 or fp16"):
        accuracy_split(train(count))


def test_too_few_images_to_calibrate() -> None:
    with pytest.raises(InputError, match=r"of 24 images 12 are free .* set calibration_images to at most 12") as caught:
        calibration_split(train(24), 13)
    assert len(caught.value.problems) == 1


def test_no_image_to_calibrate_on() -> None:
    with pytest.raises(InputError, match=r"of 0 images 0 are free for it \(the others measure the cost\); add images"):
        calibration_split(train(0), 1)


def test_no_object_to_measure_on() -> None:
    with pytest.raises(InputError, match="train: no object on the 10 images"):
        accuracy_split(train(20, boxes=0))
