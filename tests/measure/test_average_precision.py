"""AP and operating point against values by hand and a small implementation that shares no code with either."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.measure.average_precision import evaluate, match, operating_point
from edgekd.types import Detections, GroundTruth

NAMES = ("cat", "dog", "owl")
IOUS = [0.5 + 0.05 * step for step in range(10)]


def truth(image_id=1, boxes=(), classes=None, crowd=None):
    count = len(boxes)
    return GroundTruth(
        image_id,
        f"{image_id}.png",
        200,
        300,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.zeros(count, np.int64) if classes is None else np.array(classes, np.int64),
        np.zeros(count, np.bool_) if crowd is None else np.array(crowd, np.bool_),
    )


def found(boxes, scores, classes=None):
    classes = [0] * len(boxes) if classes is None else classes
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, np.int64)
    )


def perfect(images):
    return {image.image_id: found(image.boxes_px, np.ones(len(image.boxes_px)), image.class_ids) for image in images}


def scene(seed, images=12, classes=3):
    """Random labels and noisy, incomplete, spurious detections with scores that never tie."""
    random = np.random.default_rng(seed)
    truths, detections = [], {}
    for image_id in range(1, images + 1):
        objects = random.integers(0, 6)
        corner, size = random.uniform(0, 100, (objects, 2)), random.uniform(8, 110, (objects, 2))
        boxes = np.hstack([corner, corner + size])
        kinds = random.integers(0, classes, objects)
        truths.append(truth(image_id, boxes, kinds))
        kept = random.random(objects) < 0.8
        spurious = random.uniform(0, 60, (4, 2))
        guesses = np.vstack(
            [
                boxes[kept] + random.normal(0, 4, (kept.sum(), 4)),
                np.hstack([spurious, spurious + random.uniform(10, 90, (4, 2))]),
            ]
        )
        kinds = np.append(kinds[kept], random.integers(0, classes, 4))
        detections[image_id] = found(guesses, random.random(len(guesses)), kinds)
    return truths, detections


def iou_of(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def plain_hits(image, guesses, kind, least_iou):
    """[(score, hit)] of one image and class, one guess after the other; written without arrays on purpose."""
    free = [box.tolist() for box, label in zip(image.boxes_px, image.class_ids, strict=True) if label == kind]
    mine = [
        (float(score), box.tolist())
        for box, score, label in zip(guesses.boxes_px, guesses.scores, guesses.class_ids, strict=True)
        if label == kind
    ]
    outcome = []
    for score, box in sorted(mine, reverse=True):
        best = max(free, key=lambda other: iou_of(box, other), default=None)
        hit = best is not None and iou_of(box, best) >= least_iou
        if hit:
            free.remove(best)
        outcome.append((score, hit))
    return outcome


def plain_ap(truths, detections, kind, least_iou):
    outcome = sorted(
        (pair for image in truths for pair in plain_hits(image, detections[image.image_id], kind, least_iou)),
        reverse=True,
    )
    objects = sum(int((image.class_ids == kind).sum()) for image in truths)
    curve, hits = [], 0
    for rank, (_, hit) in enumerate(outcome, start=1):
        hits += hit
        curve.append((hits / objects, hits / rank))
    points = [
        max((precision for recall, precision in curve if recall >= least), default=0.0)
        for least in np.linspace(0, 1, 101)  # not step / 100: some differ in the last bit, and recalls fall on them
    ]
    return sum(points) / 101


def test_perfect_detections_have_ap_1_and_absent_classes_and_sizes_none():
    images = [truth(1, [[0, 0, 20, 20], [50, 50, 100, 100]], [0, 1]), truth(2), truth(3, [[5, 5, 25, 25]], [1])]
    result = evaluate(images, perfect(images), NAMES)
    assert (result.ap, result.ap50, result.ap75) == pytest.approx((1, 1, 1))
    assert (result.ap_small, result.ap_medium, result.ap_large) == (pytest.approx(1), pytest.approx(1), None)
    assert result.per_class == {"cat": pytest.approx(1), "dog": pytest.approx(1), "owl": None}


def test_ap_is_0_without_detections():
    result = evaluate([truth(1, [[0, 0, 20, 20]])], {}, NAMES)
    assert (result.ap, result.ap50, result.ap_small, result.ap_large) == (0, 0, 0, None)


def test_half_of_the_objects_found_gives_51_of_101_recall_points():
    images = [truth(1, [[0, 0, 20, 20]]), truth(2, [[0, 0, 20, 20]])]
    assert evaluate(images, {1: found([[0, 0, 20, 20]], [0.9])}, NAMES).ap == pytest.approx(51 / 101)


def test_a_false_alarm_before_the_hit_halves_precision():
    detections = {1: found([[100, 100, 150, 150], [0, 0, 20, 20]], [0.95, 0.9])}
    assert evaluate([truth(1, [[0, 0, 20, 20]])], detections, NAMES).ap == pytest.approx(0.5)


def test_iou_062_counts_at_three_of_ten_thresholds():
    result = evaluate([truth(1, [[0, 0, 100, 100]])], {1: found([[0, 0, 100, 62]], [0.9])}, NAMES)
    assert (result.ap, result.ap50, result.ap75) == pytest.approx((0.3, 1, 0))


def test_detections_in_a_crowd_are_ignored():
    image = truth(1, [[0, 0, 20, 20], [100, 0, 200, 100]], [0, 0], [False, True])
    detections = {1: found([[110, 10, 140, 40], [150, 10, 180, 40], [0, 0, 20, 20]], [0.99, 0.98, 0.5])}
    assert evaluate([image], detections, NAMES).ap == pytest.approx(1)


@pytest.mark.parametrize(("false_alarms", "expected"), [(99, 1 / 100), (100, 0)])
def test_only_the_best_100_detections_of_an_image_and_class_count(false_alarms, expected):
    boxes = [[100, 100, 150, 150]] * false_alarms + [[0, 0, 20, 20]]
    scores = np.linspace(0.9, 0.1, false_alarms + 1)
    result = evaluate([truth(1, [[0, 0, 20, 20]])], {1: found(boxes, scores)}, NAMES)
    assert result.ap == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_plain_implementation(seed):
    truths, detections = scene(seed)
    result = evaluate(truths, detections, NAMES)
    expected = [[plain_ap(truths, detections, kind, iou) for iou in IOUS] for kind in range(3)]
    assert result.ap == pytest.approx(np.mean(expected), abs=1e-9)
    assert result.ap50 == pytest.approx(np.mean([row[0] for row in expected]), abs=1e-9)
    assert result.ap75 == pytest.approx(np.mean([row[5] for row in expected]), abs=1e-9)
    assert list(result.per_class.values()) == pytest.approx(np.mean(expected, axis=1), abs=1e-9)


def test_order_of_detections_and_images_does_not_matter():
    truths, detections = scene(5)
    random = np.random.default_rng(0)
    shuffled = {}
    for image_id in reversed(detections):
        one = detections[image_id]
        order = random.permutation(len(one.scores))
        shuffled[image_id] = Detections(one.boxes_px[order], one.scores[order], one.class_ids[order])
    assert evaluate(truths[::-1], shuffled, NAMES) == evaluate(truths, detections, NAMES)
    assert operating_point(truths[::-1], shuffled, 0.3) == operating_point(truths, detections, 0.3)


def test_nothing_is_printed(capfd, recwarn):
    truths, detections = scene(7)
    evaluate(truths, detections, NAMES)
    match(truths, detections, NAMES)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_nothing_to_detect_is_an_error():
    with pytest.raises(InputError, match="holds no box to detect; check the split's labels"):
        evaluate([truth(1), truth(2, [[0, 0, 9, 9]], [0], [True])], {}, NAMES)


def test_detections_of_unknown_images_and_classes_are_errors():
    images = [truth(1, [[0, 0, 20, 20]])]
    with pytest.raises(InputError, match=r"1 images that the ground truth does not have \(image_id 8\)"):
        evaluate(images, {8: found([[0, 0, 5, 5]], [0.5])}, NAMES)
    for kind in (3, -1):
        with pytest.raises(InputError, match=rf"1 classes that the ground truth does not have \(class id {kind}\)"):
            evaluate(images, {1: found([[0, 0, 5, 5]], [0.5], [kind])}, NAMES)


def test_a_score_that_is_not_a_number_is_an_error():
    images = [truth(image_id, [[0, 0, 20, 20]]) for image_id in (1, 2)]
    detections = {image_id: found([[0, 0, 20, 20]] * 2, [0.5, np.nan]) for image_id in (1, 2)}
    with pytest.raises(InputError, match=r"2 images have detections whose score is not a number \(image_id 1, 2\)"):
        evaluate(images, detections, NAMES)


def test_operating_point_by_hand():
    image = truth(1, [[0, 0, 20, 20], [50, 50, 90, 90], [100, 100, 120, 120]], [0, 0, 1])
    detections = {
        1: found(
            [[0, 0, 20, 20], [1, 0, 21, 20], [50, 50, 90, 90], [100, 100, 120, 120]],
            [0.9, 0.8, 0.7, 0.6],  # hit, duplicate, hit, wrong class
            [0, 0, 0, 0],
        )
    }
    point = operating_point([image], detections, 0.25)
    assert (point.precision, point.recall, point.f1) == pytest.approx((2 / 4, 2 / 3, 4 / 7))
    point = operating_point([image], detections, 0.75)
    assert (point.threshold, point.precision, point.recall) == pytest.approx((0.75, 1 / 2, 1 / 3))
    assert operating_point([image], detections, 0.95).f1 == 0


def test_operating_point_ignores_crowds_and_keeps_iou_on_the_limit():
    image = truth(1, [[0, 0, 20, 20], [100, 0, 200, 100]], [0, 0], [False, True])
    detections = {1: found([[0, 0, 20, 10], [110, 10, 140, 40], [90, 0, 109, 20]], [0.9, 0.8, 0.7])}
    point = operating_point([image], detections, 0.25)  # IoU 0.5; inside the crowd; 9/19 of it inside: a false alarm
    assert (point.precision, point.recall) == (0.5, 1)


def test_operating_point_of_nothing_is_0():
    point = operating_point([truth(1)], {}, 0.25)
    assert (point.precision, point.recall, point.f1) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_operating_point_equals_a_plain_implementation(seed):
    truths, detections = scene(seed)
    outcomes = [
        hit
        for image in truths
        for kind in range(3)
        for score, hit in plain_hits(image, detections[image.image_id], kind, 0.5)
        if score >= 0.4
    ]
    point = operating_point(truths, detections, 0.4)
    assert point.precision == pytest.approx(sum(outcomes) / len(outcomes))
    assert point.recall == pytest.approx(sum(outcomes) / sum(len(image.boxes_px) for image in truths))


def test_duplicates_lower_precision_and_leave_recall():
    truths, detections = scene(8)
    doubled = {
        image_id: found(np.vstack([one.boxes_px] * 2), np.tile(one.scores, 2), np.tile(one.class_ids, 2))
        for image_id, one in detections.items()
    }
    once, twice = operating_point(truths, detections, 0.1, 0.8), operating_point(truths, doubled, 0.1, 0.8)
    assert twice.recall == once.recall
    assert twice.precision == pytest.approx(once.precision / 2)
