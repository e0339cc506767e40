"""Images without labels, a folder of them beside a data set: for methods that need no ground truth, or for labels that
the teacher makes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgekd.data import beside
from edgekd.data.images import SUFFIXES, ImageFacts, inspect_all
from edgekd.data.labels import relative
from edgekd.data.problems import MAX_EXAMPLES, Problem
from edgekd.errors import InputError
from edgekd.recipe.detectors import PathText
from edgekd.types import GroundTruth, Split

NAME = "unlabelled"


class UnlabelledData(BaseModel):
    """Key `unlabelled` of the data section; `unlabelled: FOLDER` is short for its `images`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: PathText = Field(description="folder of the images, with all below it, from the recipe's folder")
    labels: Literal["none", "teacher"] = Field(
        "none", description="none: methods alone act on them; teacher: its boxes are their labels"
    )
    min_score: float = Field(0.5, gt=0, lt=1, description="with 'labels: teacher': least score of a box")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"images": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _score_of_labels(self) -> UnlabelledData:
        if self.labels == "none" and self.min_score != type(self).model_fields["min_score"].default:
            raise ValueError("min_score: only with 'labels: teacher'; set it, or leave min_score out")
        return self


def in_vain(asked: UnlabelledData, *, has_teacher: bool, has_methods: bool) -> str:
    """Why nobody would learn from the images, or ""."""
    if asked.labels == "teacher" and not has_teacher:
        return "labels: teacher: there is none; add a 'teacher', or leave labels out"
    if asked.labels == "none" and not has_methods:
        return "images: no method learns from them; add some to 'distill', or write 'labels: teacher'"
    return ""


@dataclass(frozen=True)
class Unlabelled:
    """What was found in the folder.

    Attributes:
        split: the images, none with a box.
        problems: what was left out.
        warnings: a sentence each.
    """

    split: Split
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For RUN/data/split.json."""
        left_out = sum(problem.count for problem in self.problems)
        return {"images": len(self.split.images), "left_out": left_out, "content_hash": self.split.content_hash}


def read(folder: Path, splits: Mapping[str, Split], channels: int, cache: Path) -> Unlabelled:
    """The images of a folder that can be used.

    Args:
        splits: of the data set, in which they should not be.
        cache: what is known of image files.

    Raises:
        InputError: no folder, or no image that can be used.
    """
    if not folder.is_dir():
        raise InputError(f"data.unlabelled.images: no folder {folder}; correct the path")
    paths = sorted((path for path in beside.files(folder, deep=True) if path.suffix.lower() in SUFFIXES), key=str)
    facts = inspect_all(paths, channels, cache, title="images without labels")
    usable = [(path, fact) for path, fact in zip(paths, facts, strict=True) if not fact.fault]
    if not usable:
        why = next((f", e.g. {path.name}: {fact.fault}" for path, fact in zip(paths, facts, strict=True)), "")
        raise InputError(f"data.unlabelled.images: {folder} holds no image that can be used{why}; correct the path")
    digest = hashlib.sha256("".join(f"{fact.sha256}\n" for _, fact in usable).encode()).hexdigest()
    images = [_blank(number, relative(path, folder), fact) for number, (path, fact) in enumerate(usable, start=1)]
    split = Split(NAME, str(folder), tuple(images), digest)
    return Unlabelled(split, _problems(paths, facts, folder), tuple(_warnings(usable, splits, channels, cache)))


def extended(train: Split, more: Split) -> Split:
    """The train images, and behind them those of `more`, with whatever boxes these have."""
    first = 1 + max(truth.image_id for truth in train.images)
    added = [
        replace(truth, image_id=first + place, file_name=str(Path(more.image_dir).absolute() / truth.file_name))
        for place, truth in enumerate(more.images)
    ]
    digest = hashlib.sha256(f"{train.content_hash}\n{more.content_hash}".encode()).hexdigest()
    return replace(train, images=(*train.images, *added), content_hash=digest)


def _blank(number: int, name: str, fact: ImageFacts) -> GroundTruth:
    return GroundTruth(
        image_id=number,
        file_name=name,
        height_px=fact.height_px,
        width_px=fact.width_px,
        boxes_px=np.zeros((0, 4), np.float32),
        class_ids=np.zeros(0, np.int64),
        is_crowd=np.zeros(0, np.bool_),
    )


def _problems(paths: list[Path], facts: list[ImageFacts], folder: Path) -> tuple[Problem, ...]:
    found: dict[str, list[str]] = {}
    for path, fact in zip(paths, facts, strict=True):
        if fact.fault:
            found.setdefault(fact.fault, []).append(relative(path, folder))
    return tuple(Problem(NAME, kind, len(names), tuple(names[:MAX_EXAMPLES])) for kind, names in found.items())


def _warnings(
    usable: list[tuple[Path, ImageFacts]], splits: Mapping[str, Split], channels: int, cache: Path
) -> list[str]:
    """Copies of labelled images are of no use; those of val or test teach what is measured."""
    own = {fact.sha256 for _, fact in usable}
    found = [f"the {len(usable):,} images without labels make the student's epochs longer than the control's"]
    for name, split in splits.items():
        paths = [Path(split.image_dir) / truth.file_name for truth in split.images]
        shared = sum(fact.sha256 in own for fact in inspect_all(paths, channels, cache, title=f"{name} images"))
        if shared:
            measured = "" if name == "train" else ", by which the student is measured"
            found.append(f"{shared:,} images without labels are in {name} as well{measured}")
    return found
