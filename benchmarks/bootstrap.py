"""What does the interval of an AP difference cost, and is it the AP of `evaluate` that is resampled? Under a minute.

    python benchmarks/bootstrap.py                       # 1,000 images, 10 classes, 2,000 replicates of both models
    python benchmarks/bootstrap.py --images 5000

Detections are drawn: every object with some noise at its edges, and others that are wrong. A replicate is a resampling
of the images and the AP of both models on it; matching happens once and is given apart.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from paired import environment, use_cores

SIDE_PX, OBJECTS, WRONG = 640, 12, 20


def draw(images: int, classes: int, seed: int) -> tuple[list[Any], list[dict[int, Any]]]:
    """Ground truth, and the detections of two models, the second less exact."""
    from edgekd.types import Detections, GroundTruth

    random = np.random.default_rng(seed)
    truths, found = [], [dict[int, Any](), dict[int, Any]()]
    for image_id in range(1, images + 1):
        boxes = _boxes(random, int(random.integers(1, OBJECTS)))
        kinds = random.integers(0, classes, len(boxes))
        crowd = np.zeros(len(boxes), bool)
        truths.append(GroundTruth(image_id, f"{image_id}.png", SIDE_PX, SIDE_PX, boxes, kinds, crowd))
        for model, noise_px in zip(found, (4, 5), strict=True):
            others = _boxes(random, WRONG)
            every = np.vstack([boxes + random.normal(0, noise_px, boxes.shape), others]).astype(np.float32)
            named = np.append(kinds, random.integers(0, classes, WRONG))
            model[image_id] = Detections(every, random.random(len(every)).astype(np.float32), named)
    return truths, found


def _boxes(random: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    corner = random.uniform(0, SIDE_PX / 2, (count, 2))
    return np.hstack([corner, corner + random.uniform(10, 200, (count, 2))]).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--replicates", type=int, default=2000)
    options = parser.parse_args()
    use_cores(1, pin=False)
    from edgekd.measure.average_precision import evaluate
    from edgekd.measure.bootstrap import Matches, difference

    truths, (reference, candidate) = draw(options.images, options.classes, seed=0)
    names = [str(index) for index in range(options.classes)]
    began = time.perf_counter()
    matches = Matches(truths, reference, names)
    matching = time.perf_counter() - began
    own = float(matches.average_precision(np.ones((1, options.images), np.int64))[0])
    began = time.perf_counter()
    interval = difference(truths, reference, candidate, names, replicates=options.replicates).interval(0.95)
    resampling = time.perf_counter() - began - 2 * matching
    print(json.dumps({
        "benchmark": "bootstrap", "settings": vars(options), "environment": environment("numpy", "hotcoco"),
        "ms_per_replicate": round(1e3 * resampling / options.replicates, 3), "goal_at_most_ms": 5,
        "matching_seconds": round(matching, 2),
        "ap": own, "ap_minus_evaluated": own - evaluate(truths, reference, names).ap, "goal_within": 1e-6,
        "difference": [round(value, 5) for value in (interval.low, interval.estimate, interval.high)],
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
