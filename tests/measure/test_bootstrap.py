"""Intervals: image-weighted AP against COCOeval, the bootstrap's properties, Student's t by its table."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.measure.average_precision import evaluate
from edgekd.measure.bootstrap import Difference, Matches, difference, mean_interval
from edgekd.types import Detections, GroundTruth

from . import reference

NAMES = tuple("abcd")


def split(seed, images=40, classes=4, crowds=0.15):
    random = np.random.default_rng(seed)
    truths = []
    for image_id in range(1, images + 1):
        count = random.integers(0, 5)
        corner = random.uniform(0, 300, (count, 2))
        truths.append(
            GroundTruth(
                image_id,
                f"{image_id}.png",
                640,
                640,
                np.hstack([corner, corner + random.uniform(10, 150, (count, 2))]).astype(np.float32),
                random.integers(0, classes, count),
                random.random(count) < crowds,
            )
        )
    return truths


def detect(truths, seed, noise_px, spurious=6, classes=4):
    """A detector that finds every object with `noise_px` at the edges, and `spurious` others per image."""
    random = np.random.default_rng(seed)
    detections = {}
    for image in truths:
        corner = random.uniform(0, 300, (spurious, 2))
        others = np.hstack([corner, corner + random.uniform(10, 150, (spurious, 2))])
        boxes = np.vstack([image.boxes_px + random.normal(0, noise_px, image.boxes_px.shape), others])
        kinds = np.append(image.class_ids, random.integers(0, classes, spurious))
        detections[image.image_id] = Detections(
            boxes.astype(np.float32), random.random(len(boxes)).astype(np.float32), kinds
        )
    return detections


@pytest.mark.parametrize("seed", range(4))
def test_at_weight_one_it_is_pycocotools(seed):
    truths = split(seed)
    detections = detect(truths, seed, noise_px=4)
    ap = Matches(truths, detections, NAMES).average_precision(np.ones((1, len(truths)), np.int64))
    assert ap[0] == pytest.approx(reference.evaluation(truths, detections, NAMES).stats[0], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_images_repeated_that_often(seed):
    truths = split(seed)
    detections = detect(truths, seed, noise_px=4)
    weights = np.random.default_rng(seed).multinomial(len(truths), np.full(len(truths), 1 / len(truths)), size=3)
    quick = Matches(truths, detections, NAMES).average_precision(weights)
    for row, ap in zip(weights, quick, strict=True):
        drawn = [image for image, times in zip(truths, row, strict=True) for _ in range(times)]
        repeated = [replace(image, image_id=number) for number, image in enumerate(drawn, start=1)]
        copies = {number: detections[image.image_id] for number, image in enumerate(drawn, start=1)}
        assert ap == pytest.approx(evaluate(repeated, copies, NAMES).ap, abs=1e-9)


def test_a_class_without_weight_is_left_out():
    truths = split(0, images=3, crowds=0)
    boxes = np.array([[0, 0, 50, 50]], np.float32)
    for index, kind in enumerate([0, 0, 1]):
        crowd = np.zeros(1, np.bool_)
        truths[index] = replace(truths[index], boxes_px=boxes, class_ids=np.array([kind]), is_crowd=crowd)
    detections = {1: Detections(boxes, np.ones(1, np.float32), np.zeros(1, np.int64))}
    ap = Matches(truths, detections, NAMES).average_precision(np.array([[1, 1, 1], [2, 1, 0], [0, 0, 3], [3, 0, 0]]))
    # recall of class 0: 1/2, 2/3, none, 3/3; class 1 is never found
    assert ap == pytest.approx([51 / 101 / 2, 67 / 101, 0, 1])


def test_interval_of_a_model_with_itself_is_zero_wide():
    truths = split(1)
    detections = detect(truths, 1, noise_px=4)
    interval = difference(truths, detections, detections, NAMES, replicates=100).interval(0.95)
    assert (interval.low, interval.estimate, interval.high, interval.level) == (0, 0, 0, 0.95)


def test_a_better_model_is_seen_and_the_sign_is_candidate_minus_reference():
    truths = split(2)
    worse, better = detect(truths, 1, noise_px=6), detect(truths, 1, noise_px=2)
    gain = difference(truths, worse, better, NAMES, replicates=300, seed=3).interval(0.95)
    loss = difference(truths, better, worse, NAMES, replicates=300, seed=3).interval(0.95)
    assert gain.estimate == pytest.approx(evaluate(truths, better, NAMES).ap - evaluate(truths, worse, NAMES).ap)
    assert 0 < gain.low < gain.estimate < gain.high
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))


def test_pairing_narrows_the_interval():
    truths = split(3, images=80)
    first = detect(truths, 1, noise_px=4)
    second = detect(truths, 1, noise_px=4.5)
    paired = difference(truths, first, second, NAMES, replicates=300).interval(0.95)
    alone = difference(truths, {}, second, NAMES, replicates=300).interval(0.95)  # the spread of one model's AP
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_seed_governs_the_draws():
    truths = split(4)
    models = detect(truths, 1, noise_px=4), detect(truths, 2, noise_px=4)
    once, again, other = (
        difference(truths, *models, NAMES, replicates=100, seed=seed).interval(0.95) for seed in (7, 7, 8)
    )
    assert once == again
    assert once.low != other.low


def test_nothing_to_detect_is_an_error():
    with pytest.raises(InputError, match="holds no box to detect"):
        difference(split(0, crowds=1.1), {}, {}, NAMES, replicates=10).interval(0.95)


def test_a_replicate_costs_little_beside_matching():
    """In processor time, and beside work of the same kind: the machine may be slow, and in use."""
    truths = split(5, images=1000)
    began = time.process_time()
    matches = Matches(truths, detect(truths, 5, noise_px=4, spurious=20), NAMES)
    weights = np.random.default_rng(0).multinomial(1000, np.full(1000, 1e-3), size=64)
    matched = time.process_time()
    matches.average_precision(weights)
    each_s = (time.process_time() - matched) / 64
    assert each_s < 0.2 * (matched - began), "about a hundredth"


def test_mean_interval_by_the_t_table():
    interval = mean_interval([1, 2, 3])
    half = 4.302653 / 3**0.5  # t(0.975, 2 degrees of freedom) times the standard error
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((2 - half, 2, 2 + half), abs=1e-6)
    assert mean_interval([1, 2, 3], level=0.5).high == pytest.approx(2 + 0.816497 / 3**0.5, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 values, not 1"):
        mean_interval([1])


def test_p_value_counts_the_replicates_that_lose_no_more_than_the_margin():
    found = Difference(0.0, np.array([-0.02, -0.01, -0.005, 0.0]), candidate=0.3)
    assert found.p_value(0.005) == (1 + 2) / (1 + 4)
    assert found.p_value(0.03) == 1.0
    assert found.p_value(0.001) == (1 + 1) / (1 + 4)
