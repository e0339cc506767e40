"""How long AP takes: edgekd beside pycocotools, and faster-coco-eval where it is installed; are the figures the same?

    python benchmarks/ap_engines.py                      # 500 images, 24,000 detections of 20 classes, under 5 minutes
    python benchmarks/ap_engines.py --per-image 300

Detections are drawn: objects moved by a few pixels, some as another class, scores that often tie. From detections as
the agent gives them to all figures, what each engine needs to know of its data included.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
from typing import Any

import numpy as np
from paired import environment, interleave, ratio, seconds_of, use_cores

SIDE_PX = 640


class Bench:
    """One made-up data set, and every engine on it."""

    def __init__(self, options: argparse.Namespace) -> None:
        from edgekd.types import Detections, GroundTruth

        random = np.random.default_rng(0)
        self.names = [f"class {number}" for number in range(options.classes)]
        self.truth: list[GroundTruth] = []
        self.found: dict[int, Detections] = {}
        self.figures: dict[str, list[float]] = {}
        for image_id in range(1, options.images + 1):
            corner = random.uniform(0, SIDE_PX / 2, (options.objects, 2))
            boxes = np.hstack([corner, corner + random.uniform(10, 200, corner.shape)]).astype(np.float32)
            kinds, crowd = random.integers(0, options.classes, len(boxes)), random.random(len(boxes)) < 0.02
            self.truth.append(GroundTruth(image_id, f"{image_id}.png", SIDE_PX, SIDE_PX, boxes, kinds, crowd))
            near = random.integers(0, len(boxes), options.per_image)
            moved = np.sort((boxes[near] + random.normal(0, 8, (len(near), 4))).reshape(-1, 2, 2), axis=1)
            other = np.where(
                random.random(len(near)) < 0.3, random.integers(0, options.classes, len(near)), kinds[near]
            )
            scores = np.round(random.random(len(near)), 3).astype(np.float32)
            self.found[image_id] = Detections(moved.reshape(-1, 4).astype(np.float32), scores, other)

    def edgekd(self) -> None:
        """`evaluate`, as the stages call it."""
        from edgekd.measure.average_precision import evaluate

        found = evaluate(self.truth, self.found, self.names)
        self.figures["edgekd"] = [found.ap, found.ap50, found.ap75, found.ap_small, found.ap_medium, found.ap_large]  # type: ignore[list-item]

    def pycocotools(self) -> None:
        """The reference."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        self.figures["pycocotools"] = self._by(COCO, COCOeval)

    def faster_coco_eval(self) -> None:
        """A port of pycocotools' loops to C++."""
        from faster_coco_eval import COCO, COCOeval_faster

        self.figures["faster_coco_eval"] = self._by(COCO, COCOeval_faster)

    def _by(self, index_type: Any, evaluation_type: Any) -> list[float]:
        truth, found = self._coco_form()
        with contextlib.redirect_stdout(io.StringIO()):
            index = index_type()
            index.dataset = truth
            index.createIndex()
            run = evaluation_type(index, index.loadRes(found), "bbox")
            run.evaluate()
            run.accumulate()
            run.summarize()
        return [float(value) for value in run.stats[:6]]

    def _coco_form(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        annotations = [
            {"image_id": one.image_id, "category_id": int(kind), "bbox": box, "iscrowd": int(crowd)}
            for one in self.truth
            for box, kind, crowd in zip(_xywh(one.boxes_px), one.class_ids, one.is_crowd, strict=True)
        ]
        for number, one in enumerate(annotations, start=1):
            one.update(id=number, area=one["bbox"][2] * one["bbox"][3])
        truth = {
            "info": {}, "annotations": annotations,
            "images": [{"id": one.image_id, "height": SIDE_PX, "width": SIDE_PX} for one in self.truth],
            "categories": [{"id": number, "name": name} for number, name in enumerate(self.names)],
        }  # fmt: skip
        found = [
            {"image_id": image_id, "category_id": int(kind), "bbox": box, "score": float(score)}
            for image_id, one in self.found.items()
            for box, score, kind in zip(_xywh(one.boxes_px), one.scores, one.class_ids, strict=True)
        ]
        return truth, found


def _xywh(boxes_px: Any) -> list[list[float]]:
    boxes = np.asarray(boxes_px, np.float64)
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--per-image", type=int, default=48, help="detections")
    parser.add_argument("--objects", type=int, default=8, help="per image")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pin", action="store_true", help="keep everything on as many cores as there are threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    bench = Bench(options)
    sides = {"edgekd": bench.edgekd, "pycocotools": bench.pycocotools}
    if importlib.util.find_spec("faster_coco_eval"):
        sides["faster_coco_eval"] = bench.faster_coco_eval
    bench.edgekd()  # imports
    times = interleave({name: lambda side=side: seconds_of(side) for name, side in sides.items()}, options.rounds)
    print(json.dumps({
        "benchmark": "ap_engines", "settings": vars(options),
        "environment": environment("hotcoco", "pycocotools", "numpy"),
        "median_seconds": {name: round(float(np.median(seconds)), 4) for name, seconds in times.items()},
        "ratio": {name: ratio(seconds, times["edgekd"]) for name, seconds in times.items() if name != "edgekd"},
        "ap": bench.figures["edgekd"][0],
        "figures_equal": {name: bench.figures[name] == bench.figures["edgekd"] for name in sides},
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
