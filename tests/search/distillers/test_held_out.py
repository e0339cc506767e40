"""Which images of train trials train on, and which are held out."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.data.config import DataSet
from edgekd.errors import InputError
from edgekd.search.distillers.held_out import proxy_data, sides_of
from edgekd.types import GroundTruth, Split
from tests.search.distillers.test_search import recipe
from tests.stages.tiny import edgekd

SIZES = {"attic": 3, "barn": 5, "cellar": 2, "den": 4}
NAMES = [f"{scene}_{number}.png" for scene, count in SIZES.items() for number in range(count)]


def images(names: list[str]) -> list[GroundTruth]:
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    return [GroundTruth(number, name, 8, 8, *none) for number, name in enumerate(names)]


def scenes(places: list[int], pattern: str = "_") -> set[str]:
    return {NAMES[place].split(pattern)[0] for place in places}


@pytest.mark.parametrize("held_out", range(1, 10))
@pytest.mark.parametrize("seed", range(4))
def test_no_scene_is_on_both_sides(held_out: int, seed: int) -> None:
    """Whole scenes, in the order drawn, until there are enough; what is over is left out."""
    found = sides_of(images(NAMES), held_out, "^[^_]*", seed, "x")
    order = sorted(SIZES)
    random.Random(seed).shuffle(order)
    taken = next(count for count in range(1, 5) if sum(SIZES[name] for name in order[:count]) >= held_out)
    assert found.groups == (taken, 4)
    assert len(found.held_out) == held_out and found.held_out == sorted(set(found.held_out))
    assert scenes(found.held_out) <= set(order[:taken]) and scenes(found.others) == set(order[taken:])
    assert len(found.others) == sum(SIZES[name] for name in order[taken:])
    assert found == sides_of(images(NAMES), held_out, "^[^_]*", seed, "x")


def test_the_first_brackets_tell_groups_apart() -> None:
    names = ["video7/a.jpg", "other/video7-b.jpg", "video8/a.jpg"]
    found = sides_of(images(names), 1, r"video(\d)", 0, "x")
    assert found.groups == (1, 2)
    assert (found.held_out, found.others) in (([2], [0, 1]), ([0], [2]), ([1], [2]))


def test_one_group_is_always_left_to_train_on() -> None:
    found = sides_of(images(NAMES), 100, "^[^_]*", 0, "x")
    assert found.groups == (3, 4) and len(scenes(found.others)) == 1
    assert len(found.held_out) + len(found.others) == len(NAMES)


def test_parts_of_the_data() -> None:
    """Without groups they are drawn as ever: held out come first."""
    train = Split("train", "/x", images(NAMES), "hash")
    data = DataSet(("one",), 3, {"train": train, "test": train}, (), {}, ())
    names = {}
    for group in (None, "^[^_]*"):
        found = proxy_data(data, sides_of(train.images, 4, group, 1, "x"), 3, 4, seed=1)
        assert list(found.splits) == ["train", "val"]
        names[group] = {name: [one.file_name for one in split.images] for name, split in found.splits.items()}
        assert [len(one) for one in names[group].values()] == [3, 4]
        assert not set(names[group]["train"]) & set(names[group]["val"])
        assert len({train.content_hash, *(split.content_hash for split in found.splits.values())}) == 3
    drawn = random.Random(1).sample(range(len(NAMES)), 7)
    assert names[None] == {
        "train": [NAMES[place] for place in sorted(drawn[4:])], "val": [NAMES[place] for place in sorted(drawn[:4])],
    }  # fmt: skip
    apart = [{one.split("_")[0] for one in part} for part in names["^[^_]*"].values()]
    assert not apart[0] & apart[1]


def test_an_expression_that_finds_nothing_or_everything_alike() -> None:
    with pytest.raises(InputError, match=r"x: search.proxy.group: 'shed' finds nothing in 'attic_0.png', an image of"):
        sides_of(images(NAMES), 1, "shed", 0, "x")
    with pytest.raises(InputError, match=r"finds '.png' in the name of every image of train, so none could be held"):
        sides_of(images(NAMES), 1, r"\.png", 0, "x")


@pytest.mark.parametrize(
    ("proxy", "text"),
    [
        ({"group": "("}, "search.proxy.group: '(' is no regular expression (missing ), unterminated subpattern"),
        ({"group": "shed"}, "search.proxy.group: 'shed' finds nothing in '000001.png', an image of train"),
        # 24 images: nine below ten, ten below twenty, five above
        ({"group": r"0000(\d)", "images": 20, "held_out": 4}, "search.proxy: 1 of 3 groups give 4 of 4 images to hold"),
        ({"group": r"0000(\d)", "images": 2, "held_out": 22}, "search.proxy: 2 of 3 groups give"),
    ],
)
def test_what_is_refused_before_anything_is_trained(
    folder: Path, tmp_path: Path, proxy: dict[str, Any], text: str
) -> None:
    ended = edgekd("search", recipe(folder, proxy=proxy), "--out", tmp_path / "S")
    assert ended.code == 2 and text in ended.err
