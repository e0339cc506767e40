"""Follows images through the engine's augmentation: which ones are in a sample, and where they lie in it.

The engine says of a sample the first file and nothing of padding. Each of its transforms computes what it does once
(`get_params`) and applies that to the boxes (`apply_instances`); there, a small record is changed along with them. No
random number is drawn and no pixel is touched, so the samples are those of the engine's own training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekd.training.engines.batch import KEY, Sample
from edgekd.training.engines.release import changed

Labels: TypeAlias = dict[str, Any]
Boxes: TypeAlias = npt.NDArray[np.float64]
Update: TypeAlias = Callable[[Any, Labels, Mapping[str, Any]], Sample]


def follow(dataset: Any, unlabelled: frozenset[int] = frozenset()) -> None:
    """From now on, samples of the engine's data set say what they show.

    Args:
        unlabelled: places in the split of images whose objects were never marked.

    Raises:
        EnvironmentFault: the engine has a transform that is not known here.
    """
    dataset.get_image_and_label = _Loaded(dataset.get_image_and_label, unlabelled)
    dataset.build_transforms = _Built(dataset.build_transforms)  # the engine builds them anew where it ends the mosaic
    _hook(dataset.transforms, set())


class _Loaded:
    """The data set's images as they are read: all content. A class, so that worker processes can be sent it."""

    def __init__(self, load: Callable[[int], Labels], unlabelled: frozenset[int]) -> None:
        self._load, self._unlabelled = load, unlabelled

    def __call__(self, index: int) -> Labels:
        labels = self._load(index)
        height, width = labels["img"].shape[:2]
        labels[KEY] = Sample((index,), ((0.0, 0.0, width, height),), index not in self._unlabelled)
        return labels


class _Built:
    """The data set's transforms, hooked as they are built."""

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build

    def __call__(self, *given: Any, **named: Any) -> Any:
        transforms = self._build(*given, **named)
        _hook(transforms, set())
        return transforms


class _Followed:
    """A transform's `apply_instances`, which takes the record along."""

    def __init__(self, transform: Any, update: Update) -> None:
        self._transform, self._apply, self._update = transform, transform.apply_instances, update

    def __call__(self, labels: Labels, params: Mapping[str, Any]) -> Labels:
        after = self._update(self._transform, labels, params)
        labels = self._apply(labels, params)
        labels[KEY] = after
        return labels


def _hook(transform: Any, done: set[int]) -> None:
    """Hook a transform and those within it, each once: the engine uses some in two places."""
    if transform is None or id(transform) in done:
        return
    done.add(id(transform))
    name = type(transform).__name__
    if name == "Compose":
        for part in transform.transforms:
            _hook(part, done)
    elif name in _UPDATES:
        transform.apply_instances = _Followed(transform, _UPDATES[name])
        _hook(getattr(transform, "pre_transform", None), done)
    elif name not in _LEFT:
        raise changed(f"its augmentation has a transform {name}, which edgekd does not know")


def _mosaic(transform: Any, _: Labels, params: Mapping[str, Any]) -> Sample:
    samples, side = [], 2.0 * transform.imgsz
    for item in params["layout"]:
        move = partial(_shifted, np.array([item["padw"], item["padh"]] * 2, np.float64), side)
        samples.append(_moved(item["labels_patch"], move))
    return _joined(*samples)


def _shifted(shift: Boxes, side: float, parts: Boxes) -> Boxes:
    return (parts + shift).clip(0, side)


def _perspective(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    matrix, size = params["M"].astype(np.float64), params["size"]

    def warped(parts: Boxes) -> Boxes:
        corners = np.stack([parts[:, [0, 1]], parts[:, [2, 1]], parts[:, [0, 3]], parts[:, [2, 3]]], 1)  # (n, 4, 2)
        corners = np.concatenate([corners, np.ones((*corners.shape[:2], 1))], 2) @ matrix.T
        corners = (corners[..., :2] / corners[..., 2:]).clip(0, size)
        return np.concatenate([corners.min(1), corners.max(1)], 1)

    return _moved(labels, warped)


def _letterbox(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    scale, shift = np.array(params["ratio"] * 2), np.array([params["left"], params["top"]] * 2)
    return _moved(labels, lambda parts: parts * scale + shift)


def _flip(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    height, width = labels["img"].shape[:2]
    if not params["flip"]:
        return _moved(labels, lambda parts: parts)
    if params["direction"] == "vertical":
        return _moved(labels, lambda parts: np.array([0, height, 0, height]) + parts[:, [0, 3, 2, 1]] * [1, -1, 1, -1])
    return _moved(labels, lambda parts: np.array([width, 0, width, 0]) + parts[:, [2, 1, 0, 3]] * [-1, 1, -1, 1])


def _mixup(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    return _joined(labels[KEY], params["mix_labels"][0][KEY])


def _cutmix(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    sample: Sample = labels[KEY]
    if params.get("skip"):
        return sample
    area = np.asarray(params["area"], np.float64).astype(np.int32)
    low, high = np.tile(area[:2], 2), np.tile(area[2:], 2)
    return _joined(sample, _moved(params["mix_labels"][0], lambda parts: parts.clip(low, high)))


def _format(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    return _moved(labels, lambda parts: parts / np.array([params["w"], params["h"]] * 2))


def _moved(labels: Labels, move: Callable[[Boxes], Boxes]) -> Sample:
    """The record of `labels` with its parts (n, 4) elsewhere."""
    sample: Sample = labels[KEY]
    moved = move(np.array(sample.parts, dtype=np.float64))
    return sample._replace(parts=tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in moved.tolist()))


def _joined(*samples: Sample) -> Sample:
    ids, parts, labelled = zip(*samples, strict=True)
    return Sample(tuple(chain(*ids)), tuple(chain(*parts)), all(labelled))


_UPDATES: dict[str, Update] = {
    "Mosaic": _mosaic, "RandomPerspective": _perspective, "LetterBox": _letterbox, "RandomFlip": _flip, "MixUp": _mixup,
    "CutMix": _cutmix, "Format": _format,
}  # fmt: skip
_LEFT = {"RandomHSV", "Albumentations", "CopyPaste"}  # colours alone; what a recipe cannot switch on
