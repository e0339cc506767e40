"""Which images of train trials train on, and which are held out for their AP.

Images of one scene, video or camera are alike: a student that has trained on some of them finds the objects of the
others by what stands around them, and what its AP says of new scenes is too much. So such groups may be kept together.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from edgekd.data.config import DataSet
from edgekd.errors import InputError
from edgekd.plain import value
from edgekd.types import GroundTruth, Split


class Sides(NamedTuple):
    """Places in train.

    Attributes:
        others: that trials may train on.
        groups: how many of the groups are held out, and how many there are; None without groups.
    """

    held_out: list[int]
    others: list[int]
    groups: tuple[int, int] | None


def sides_of(images: Sequence[GroundTruth], held_out: int, group: str | None, seed: int, where: str) -> Sides:
    """Whole groups, in an order drawn by a seed, until there are enough images; what is over is on neither side.

    Args:
        held_out: images.
        group: regular expression; images are of one group if it finds the same in their names: its first pair of
            brackets, or all of it. None: each image is for itself, and nothing is drawn yet.

    Raises:
        InputError: it finds nothing in a name, or the same in all of them.
    """
    if group is None:
        return Sides([], list(range(len(images))), None)
    found = _groups(images, group, where)
    rng, names = random.Random(seed), sorted(found)
    rng.shuffle(names)
    taken: list[int] = []
    count = 0
    while len(taken) < held_out and count < len(names) - 1:
        taken += found[names[count]]
        count += 1
    others = sorted(place for name in names[count:] for place in found[name])
    return Sides(sorted(rng.sample(taken, min(held_out, len(taken)))), others, (count, len(names)))


def _groups(images: Sequence[GroundTruth], group: str, where: str) -> dict[str, list[int]]:
    pattern, found = re.compile(group), dict[str, list[int]]()
    for place, image in enumerate(images):
        match = pattern.search(image.file_name)
        if match is None:
            raise InputError(
                f"{where}: search.proxy.group: {value(group)} finds nothing in {value(image.file_name)}, an image of "
                "train; write what all names have, such as '^[^_]*'"
            )
        found.setdefault((match[1] or "") if pattern.groups else match[0], []).append(place)
    if len(found) == 1:
        raise InputError(
            f"{where}: search.proxy.group: {value(group)} finds {value(next(iter(found)))} in the name of every image "
            "of train, so none could be held out; write what tells scenes apart"
        )
    return found


def proxy_data(data: DataSet, sides: Sides, images: int, held_out: int, seed: int) -> DataSet:
    """A part of train as train and another one as val, drawn by a seed, in the order of train."""
    train, rng = data.splits["train"], random.Random(seed)
    if sides.groups is None:
        drawn = rng.sample(sides.others, images + held_out)
        parts = {"train": sorted(drawn[held_out:]), "val": sorted(drawn[:held_out])}
    else:
        parts = {"train": sorted(rng.sample(sides.others, images)), "val": sides.held_out}
    return replace(data, splits={name: _part(train, name, places) for name, places in parts.items()}, unlabelled=None)


def _part(train: Split, name: str, places: list[int]) -> Split:
    digest = hashlib.sha256(f"{train.content_hash}\n{places}".encode()).hexdigest()
    return replace(train, name=name, images=[train.images[place] for place in places], content_hash=digest)
