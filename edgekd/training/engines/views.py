"""Follows images through the engine's augmentation: which ones are in a sample, and where they lie in it.

The engine says of a sample the first file and nothing of padding. Each of its transforms computes what it does once
(`get_params`) and applies that to the boxes (`apply_instances`); there, a small record is changed along with them. No
random number is drawn and no pixel is touched, so the samples are those of the engine's own training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, TypeAlias

from edgekd.training.engines.batch import KEY, Box, Sample
from edgekd.training.engines.protocol import EngineData
from edgekd.training.engines.release import changed

Labels: TypeAlias = dict[str, Any]
Move: TypeAlias = Callable[[Box], Box]
Update: TypeAlias = Callable[[Any, Labels, Mapping[str, Any]], Sample]


def follow(dataset: EngineData, unlabelled: frozenset[int] = frozenset()) -> None:
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
    side = 2.0 * transform.imgsz
    return _joined(*(_moved(item["labels_patch"], _shifted(item["padw"], item["padh"], side))
                     for item in params["layout"]))  # fmt: skip


def _shifted(x: float, y: float, side: float) -> Move:
    def move(part: Box) -> Box:
        x1, y1, x2, y2 = part
        return _within(x1 + x, side), _within(y1 + y, side), _within(x2 + x, side), _within(y2 + y, side)

    return move


def _perspective(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    (a, b, c), (d, e, f), (g, h, i) = params["M"].tolist()
    width, height = params["size"]

    def move(part: Box) -> Box:
        x1, y1, x2, y2 = part
        corners = ((x1, y1), (x2, y1), (x1, y2), (x2, y2))
        depths = [g * x + h * y + i for x, y in corners]
        xs = [_within((a * x + b * y + c) / depth, width) for (x, y), depth in zip(corners, depths, strict=True)]
        ys = [_within((d * x + e * y + f) / depth, height) for (x, y), depth in zip(corners, depths, strict=True)]
        return min(xs), min(ys), max(xs), max(ys)

    return _moved(labels, move)


def _letterbox(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    (wide, tall), left, top = params["ratio"], params["left"], params["top"]

    def move(part: Box) -> Box:
        x1, y1, x2, y2 = part
        return x1 * wide + left, y1 * tall + top, x2 * wide + left, y2 * tall + top

    return _moved(labels, move)


def _flip(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    sample: Sample = labels[KEY]
    if not params["flip"]:
        return sample
    height, width = labels["img"].shape[:2]
    if params["direction"] == "vertical":
        return _moved(labels, lambda part: (part[0], height - part[3], part[2], height - part[1]))
    return _moved(labels, lambda part: (width - part[2], part[1], width - part[0], part[3]))


def _mixup(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    return _joined(labels[KEY], params["mix_labels"][0][KEY])


def _cutmix(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    sample: Sample = labels[KEY]
    if params.get("skip"):
        return sample
    left, top, right, bottom = (int(value) for value in params["area"])

    def move(part: Box) -> Box:
        x1, y1, x2, y2 = part
        return max(x1, left), max(y1, top), min(x2, right), min(y2, bottom)

    return _joined(sample, _moved(params["mix_labels"][0], move))


def _format(_: Any, labels: Labels, params: Mapping[str, Any]) -> Sample:
    width, height = params["w"], params["h"]
    return _moved(labels, lambda part: (part[0] / width, part[1] / height, part[2] / width, part[3] / height))


def _moved(labels: Labels, move: Move) -> Sample:
    """The record of `labels` with its parts elsewhere."""
    sample: Sample = labels[KEY]
    return Sample(sample.ids, tuple(map(move, sample.parts)), sample.labelled)


def _joined(*samples: Sample) -> Sample:
    ids, parts, labelled = zip(*samples, strict=True)
    return Sample(tuple(chain(*ids)), tuple(chain(*parts)), all(labelled))


def _within(value: float, high: float) -> float:
    return 0.0 if value < 0 else high if value > high else value


_UPDATES: dict[str, Update] = {
    "Mosaic": _mosaic, "RandomPerspective": _perspective, "LetterBox": _letterbox, "RandomFlip": _flip, "MixUp": _mixup,
    "CutMix": _cutmix, "Format": _format,
}  # fmt: skip
_LEFT = {"RandomHSV", "Albumentations", "CopyPaste"}  # colours alone; what a recipe cannot switch on
