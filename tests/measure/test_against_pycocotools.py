"""AP and matches against pycocotools itself, bit for bit, on what makes evaluators differ."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.measure import average_precision
from edgekd.measure.average_precision import evaluate, match
from edgekd.types import Detections, GroundTruth

from . import reference

SEEDS = range(60)


class Scene:
    """Labels and detections that coincide, overlap equally, tie in score, lie in crowds and have sides at the limits.

    Image ids are in no order, some images and classes have no label, some no detection, and a few have more detections
    of a class than count.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.grid_px = float(self.random.choice([0, 1, 8, 32]))
        self.names = [f"class {number}" for number in range(self.random.integers(1, 5))]
        ids = self.random.permutation(1000)[: self.random.integers(1, 9)] - (500 if seed % 5 == 0 else 0)
        self.truth = [self._labels(int(image_id)) for image_id in ids]
        self.found = {one.image_id: self._detections(one) for one in self.truth if self.random.random() < 0.9}

    def _boxes(self, count: int) -> np.ndarray:
        sides = self.random.choice([10.0, 32.0, 96.0, *self.random.uniform(1, 200, 3)], (count, 2))
        boxes = np.hstack([self.random.uniform(0, 150, (count, 2)), sides])
        if self.grid_px:
            boxes = np.round(boxes / self.grid_px) * self.grid_px
        boxes[:, 2:] += boxes[:, :2]
        return boxes.astype(np.float32)

    def _labels(self, image_id: int) -> GroundTruth:
        count = 0 if self.random.random() < 0.2 else int(self.random.integers(0, 20))
        boxes = self._boxes(count)
        if count > 2:
            boxes[1] = boxes[0]
        crowd = self.random.random(count) < 0.2
        kinds = self.random.integers(0, len(self.names), count)
        return GroundTruth(image_id, f"{image_id}.png", 400, 400, boxes, kinds, crowd)

    def _detections(self, image: GroundTruth) -> Detections:
        count = int(self.random.choice([0, 5, 30, 300]))
        boxes, kinds = self._boxes(count), self.random.integers(0, len(self.names), count)
        if len(image.boxes_px) and count:
            near = self.random.random(count) < 0.6
            chosen = self.random.integers(0, len(image.boxes_px), count)
            moved = image.boxes_px[chosen] + self.random.normal(0, 3, (count, 4)) * (
                self.random.random((count, 1)) < 0.7
            )
            moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
            boxes[near], kinds[near] = moved[near], image.class_ids[chosen[near]]
        scores = self.random.random(count)
        scores = [scores, np.round(scores, 1), np.full(count, 0.5)][self.random.integers(0, 3)]
        return Detections(boxes, scores.astype(np.float32), kinds)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_array_and_figure_is_the_same(seed: int) -> None:
    scene = Scene(seed)
    expected = reference.evaluation(scene.truth, scene.found, scene.names)
    run = average_precision._evaluation(scene.truth, scene.found, scene.names)
    run.evaluate()
    run.accumulate()
    for key in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(run.eval[key], expected.eval[key], err_msg=key)
    if (expected.eval["precision"][..., 0, -1] == -1).all():
        return  # refused, see below
    found = evaluate(scene.truth, scene.found, scene.names)
    for key, value in zip(reference.STATS, expected.stats[:6], strict=True):
        assert getattr(found, key) == (None if value == -1 else value), key
    for index, name in enumerate(scene.names):
        precision = expected.eval["precision"][:, :, index, 0, -1]
        of_class = precision[precision > -1]
        assert found.per_class[name] == (of_class.mean() if of_class.size else None)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_detections_match(seed: int) -> None:
    scene = Scene(seed)
    expected = {
        (one["category_id"] - 1, one["image_id"]): one
        for one in reference.evaluation(scene.truth, scene.found, scene.names).evalImgs
        if one is not None and one["aRng"] == [0, 1e10]
    }
    ids = sorted(image.image_id for image in scene.truth)
    matches = match(scene.truth, scene.found, scene.names)
    ours = {(kind, ids[one["image_id"]]): one for kind, found in enumerate(matches) for one in found}
    assert ours.keys() == expected.keys()
    for place, theirs in expected.items():
        one = ours[place]
        assert one["dtScores"] == theirs["dtScores"]
        np.testing.assert_array_equal(np.array(one["dtMatched"], bool), theirs["dtMatches"] > 0)
        np.testing.assert_array_equal(np.array(one["dtIgnore"], bool), theirs["dtIgnore"].astype(bool))
        np.testing.assert_array_equal(np.array(one["gtIgnore"], bool), np.array(theirs["gtIgnore"], bool))


def test_the_scenes_hold_what_they_promise() -> None:
    scenes = [Scene(seed) for seed in SEEDS]
    labels = [image for scene in scenes for image in scene.truth]
    found = [one for scene in scenes for one in scene.found.values()]
    assert any(image.is_crowd.any() for image in labels)
    assert any(not len(image.boxes_px) for image in labels)
    assert any(image.image_id < 0 for image in labels)
    assert any(len(one.scores) > 100 * len(set(one.class_ids.tolist())) for one in found)
    assert any(len(set(one.scores.tolist())) < len(one.scores) for one in found)
    assert any([image.image_id for image in scene.truth] != sorted(scene.found) for scene in scenes)
