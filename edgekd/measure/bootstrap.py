"""Intervals: a paired bootstrap over images for a difference of AP, and a t-interval for a mean over seeds.

Detections are matched to ground truth once. Resampling the images then only changes how often
each of them counts, so a replicate is the AP with integer image weights; at weight one it is COCOeval's AP. Against
COCOeval on physically repeated images it differs only where scores tie, by the order among equals.
The idea: Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.measure.average_precision import match
from edgekd.progress import progress
from edgekd.types import Detections, GroundTruth, IntArray

_BATCH = 64  # replicates computed together
_IOUS = 10  # COCO's thresholds
_RECALLS = np.linspace(0, 1, 101)  # COCO's recall points


@dataclass(frozen=True)
class Interval:
    """An estimate between two bounds.

    Attributes:
        low, high: bounds.
        estimate: from all the data.
        level: confidence, e.g. 0.95.
    """

    low: float
    high: float
    estimate: float
    level: float


@dataclass(frozen=True)
class Difference:
    """AP(candidate) - AP(reference), and the same of every replicate.

    Attributes:
        draws: (R,) replicates.
        candidate: AP(candidate) itself.
    """

    estimate: float
    draws: npt.NDArray[np.float64]
    candidate: float

    def interval(self, level: float) -> Interval:
        """Percentile interval."""
        tail = (1 - level) / 2
        low, high = np.nanquantile(self.draws, [tail, 1 - tail])
        return Interval(float(low), float(high), self.estimate, level)

    def p_value(self, margin: float) -> float:
        """Share of replicates that lose no more than `margin`; at least one in R + 1."""
        return float((1 + np.count_nonzero(self.draws >= -margin)) / (1 + len(self.draws)))


@dataclass(frozen=True)
class _ClassMatches:
    """One class of one model. D detections, best score first; those to be ignored at an IoU lie in a crowd box.

    Attributes:
        objects: (I,) ground-truth boxes per image, crowds left out.
        images: (D,) index of the image of each detection.
        hits: per IoU threshold, (H,) ascending positions among the D of those that found an object.
        ignored: per IoU threshold, (G,) positions of those that count for nothing.
    """

    objects: IntArray
    images: IntArray
    hits: tuple[IntArray, ...]
    ignored: tuple[IntArray, ...]


class Matches:
    """Who matched whom, of one model on one split: all that is needed for the AP of any weighting of the images."""

    def __init__(
        self,
        ground_truth: Sequence[GroundTruth],
        detections: Mapping[int, Detections],
        class_names: Sequence[str],
    ) -> None:
        """Match once. Arguments and errors as in `average_precision.evaluate`."""
        self.images = len(ground_truth)
        per_class = match(ground_truth, detections, class_names)
        self.classes = [_class_matches(found, self.images) for found in per_class]

    def average_precision(self, weights: IntArray) -> npt.NDArray[np.float64]:
        """AP (COCO, all sizes) of weighted images: (R, I) integer weights, images by ascending id -> (R,).

        NaN where no image with ground truth has a weight.
        """
        per_class = np.stack([_weighted_ap(one, weights) for one in self.classes])
        defined = ~np.isnan(per_class)
        total = np.where(defined, per_class, 0).sum(0)
        mean: npt.NDArray[np.float64] = np.divide(
            total, defined.sum(0), out=np.full(len(weights), np.nan), where=defined.any(0)
        )
        return mean


def difference(
    ground_truth: Sequence[GroundTruth],
    reference: Mapping[int, Detections],
    candidate: Mapping[int, Detections],
    class_names: Sequence[str],
    *,
    replicates: int = 2000,
    seed: int = 0,
    title: str | None = None,
) -> Difference:
    """AP(candidate) - AP(reference), both on the same resampled images.

    Args:
        ground_truth: every image of the split.
        reference, candidate: image id -> detections.
        class_names: index = class id.
        replicates: bootstrap samples.
        seed: of the resampling.
        title: of a progress bar; none is shown without it.

    Raises:
        InputError: as `average_precision.evaluate`.
    """
    first, second = (Matches(ground_truth, one, class_names) for one in (reference, candidate))

    def gain(weights: IntArray) -> npt.NDArray[np.float64]:
        return second.average_precision(weights) - first.average_precision(weights)

    once = np.ones((1, first.images), np.int64)
    estimate, own = float(gain(once)[0]), float(second.average_precision(once)[0])
    if np.isnan(estimate):
        raise InputError("average precision: the ground truth holds no box to detect; check the split's labels")
    with progress(title, replicates) if title else nullcontext() as advance:
        draws = _replicates(gain, first.images, replicates, np.random.default_rng(seed), advance)
    return Difference(estimate, draws, own)


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's t-interval of a mean, e.g. of AP over seeds.

    Raises:
        ValueError: fewer than two values have no spread.
    """
    from scipy.special import stdtrit

    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, not {len(values)}")
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * error
    return Interval(mean - half, mean + half, mean, level)


def _replicates(
    statistic: Callable[[IntArray], npt.NDArray[np.float64]],
    images: int,
    count: int,
    random: np.random.Generator,
    advance: Callable[..., None] | None,
) -> npt.NDArray[np.float64]:
    """(count,) values of the statistic on images drawn with replacement."""
    draws = []
    for start in range(0, count, _BATCH):
        size = min(_BATCH, count - start)
        draws.append(statistic(random.multinomial(images, np.full(images, 1 / images), size=size)))
        if advance is not None:
            advance(size)
    return np.concatenate(draws)


def _class_matches(found: Sequence[Mapping[str, Any]], images: int) -> _ClassMatches:
    """Join who matched whom of one class, over all images, in the order of COCO's own averaging."""
    objects = np.zeros(images, np.int64)
    for one in found:
        objects[one["image_id"]] = len(one["gtIgnore"]) - sum(one["gtIgnore"])
    per_image = np.array([one["image_id"] for one in found], np.int64)
    counts = [len(one["dtScores"]) for one in found]
    scores = np.array([score for one in found for score in one["dtScores"]])
    best_first = np.argsort(-scores, kind="mergesort")
    matched, ignored = (_side_by_side([one[key] for one in found])[:, best_first] for key in ("dtMatched", "dtIgnore"))
    return _ClassMatches(
        objects,
        np.repeat(per_image, counts)[best_first],
        tuple(np.flatnonzero(row) for row in matched & ~ignored),
        tuple(np.flatnonzero(row) for row in ignored),
    )


def _side_by_side(parts: Sequence[Sequence[Sequence[bool]]]) -> npt.NDArray[np.bool_]:
    """(IoUs, detections) of each image -> of all."""
    arrays = [np.array(part, np.bool_) for part in parts]
    return np.concatenate([np.zeros((_IOUS, 0), np.bool_), *arrays], axis=1)


def _weighted_ap(one: _ClassMatches, weights: IntArray) -> npt.NDArray[np.float64]:
    """(R, I) -> (R,) AP of one class, mean over IoUs and recall points; NaN where it has no ground truth.

    Precision peaks at hits, so only those positions are looked at.
    """
    objects = weights @ one.objects
    reached = _hits_needed(objects)
    weight = weights[:, one.images]
    seen = weight.cumsum(1)
    total = np.zeros(len(weights))
    for hits, ignored in zip(one.hits, one.ignored, strict=True):
        if not len(hits):
            continue
        true = weight[:, hits].cumsum(1)
        counted = seen[:, hits]
        if len(ignored):
            before = np.searchsorted(ignored, hits)  # how many ignored detections precede each hit
            skipped = np.pad(weight[:, ignored].cumsum(1), ((0, 0), (1, 0)))
            counted = counted - skipped[:, before]
        precision = true / (counted + np.spacing(1))
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        total += _mean_at(envelope, true, reached)
    return np.where(objects > 0, total / len(one.hits), np.nan)


def _hits_needed(objects: IntArray) -> IntArray:
    """(R,) -> (R, 101) fewest hits whose recall, as the floating-point quotient, reaches each recall point."""
    divisor = np.maximum(objects, 1)[:, None]
    fewest = np.ceil(_RECALLS * divisor).astype(np.int64)
    fewest -= (fewest - 1) / divisor >= _RECALLS
    fewest += fewest / divisor < _RECALLS
    return np.maximum(fewest, 0)


def _mean_at(envelope: npt.NDArray[np.float64], true: IntArray, reached: IntArray) -> npt.NDArray[np.float64]:
    """(R, H) envelope and hits so far, (R, 101) hits needed -> (R,) mean precision, 0 where they are never reached.

    Rows are searched all at once, each shifted beyond the one before.
    """
    rows, length = true.shape
    shift = np.arange(rows)[:, None] * (max(int(true[:, -1].max()), int(reached.max())) + 1)
    places = np.searchsorted((true + shift).ravel(), (reached + shift).ravel()).reshape(reached.shape)
    places -= np.arange(rows)[:, None] * length
    padded = np.concatenate([envelope, np.zeros((rows, 1))], axis=1)
    mean: npt.NDArray[np.float64] = np.take_along_axis(padded, np.minimum(places, length), axis=1).mean(1)
    return mean
