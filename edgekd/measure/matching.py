"""COCOeval with a faster `evaluate()` and `accumulate()`: the same results, element for element.

Of hundreds of detections per image at a low threshold only a few overlap an object. COCOeval walks through all of them,
for each IoU threshold and each range of areas, and ranks them anew each time; here they are ranked once, and only those
that could match are walked through. The precision envelope is a running maximum of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.cocoeval import COCOeval

FloatMatrix = npt.NDArray[np.float64]


class Evaluation(COCOeval):  # type: ignore[misc]
    """See `COCOeval`; for boxes, with categories. Averages at one limit of detections per image, the usual 100.

    Args:
        truth, found: indexed annotations.
        advance: called once per image, class and range of areas.
    """

    def __init__(self, truth: Any, found: Any, advance: Callable[..., object] | None = None) -> None:
        super().__init__(truth, found, "bbox")
        self._advance = advance
        self.params.maxDets = self.params.maxDets[-1:]
        self._ranked: dict[tuple[int, int], tuple[list[int], list[float], FloatMatrix]] = {}

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: N802, N803  (the library's names)
        """IoU of detections (best first) and objects; nothing where one side is empty."""
        found = self._dts[imgId, catId]
        scores = np.array([one["score"] for one in found])
        best = np.argsort(-scores, kind="mergesort")[: self.params.maxDets[-1]]
        ids, areas = [found[index]["id"] for index in best], np.array([found[index]["area"] for index in best])
        self._ranked[imgId, catId] = ids, [found[index]["score"] for index in best], areas
        return super().computeIoU(imgId, catId) if found and self._gts[imgId, catId] else []

    def evaluateImg(self, imgId: int, catId: int, aRng: list[float], maxDet: int) -> dict[str, Any] | None:  # noqa: N802, N803
        """Who matches whom, of one class in one image, among objects in a range of areas."""
        if self._advance is not None:
            self._advance()
        objects = self._gts[imgId, catId]
        ids, scores, areas = self._ranked[imgId, catId]
        if not objects and not ids:
            return None
        ignored = [int(bool(one["ignore"]) or not aRng[0] <= one["area"] <= aRng[1]) for one in objects]
        order = sorted(range(len(objects)), key=ignored.__getitem__)  # those to be ignored come last
        objects, ignored = [objects[index] for index in order], [ignored[index] for index in order]
        rows = len(self.params.iouThrs)
        found_matches, object_matches = np.zeros((rows, len(ids))), np.zeros((rows, len(objects)))
        found_ignored = np.zeros((rows, len(ids)), dtype=bool)
        if objects and ids:
            overlaps = self.ious[imgId, catId][:, order]
            most = overlaps.max(axis=1)
            crowd = [bool(one["iscrowd"]) for one in objects]
            for row, threshold in enumerate(np.minimum(self.params.iouThrs, 1 - 1e-10)):
                candidates = np.flatnonzero(most >= threshold).tolist()
                for found, index in _greedy(overlaps, candidates, threshold, ignored, crowd):
                    found_matches[row, found] = objects[index]["id"]
                    object_matches[row, index] = ids[found]
                    found_ignored[row, found] = ignored[index]
        found_ignored |= (found_matches == 0) & ((areas < aRng[0]) | (areas > aRng[1]))
        return {
            "image_id": imgId, "category_id": catId, "aRng": aRng, "maxDet": maxDet,
            "dtIds": ids, "gtIds": [one["id"] for one in objects], "dtMatches": found_matches,
            "gtMatches": object_matches, "dtScores": scores, "gtIgnore": np.array(ignored), "dtIgnore": found_ignored,
        }  # fmt: skip

    def accumulate(self, p: Any = None) -> None:
        """Precision at the recall points, and the highest recall: `eval["precision"]`, `eval["recall"]`."""
        params = self.params if p is None else p
        sizes = len(params.catIds), len(params.areaRng)
        precision = -np.ones((len(params.iouThrs), len(params.recThrs), *sizes, 1))
        recall = -np.ones((len(params.iouThrs), *sizes, 1))
        images = len(params.imgIds)
        for group in range(sizes[0] * sizes[1]):
            results = [one for one in self.evalImgs[group * images : (group + 1) * images] if one is not None]
            wanted = sum(int(np.count_nonzero(one["gtIgnore"] == 0)) for one in results)
            if wanted:
                category, area = divmod(group, sizes[1])
                curve, reached = _curve(results, wanted, params.recThrs)
                precision[:, :, category, area, 0], recall[:, category, area, 0] = curve, reached
        self.eval = {"params": params, "precision": precision, "recall": recall}


def _curve(results: list[dict[str, Any]], wanted: int, recalls: FloatMatrix) -> tuple[FloatMatrix, FloatMatrix]:
    """Precision (IoUs, recall points) and the highest recall (IoUs,) of one class and range of areas.

    Args:
        results: of `evaluateImg`, of the images that have any.
        wanted: number of objects to be found.
        recalls: points, ascending.
    """
    best = np.argsort(-np.concatenate([one["dtScores"] for one in results]), kind="mergesort")
    matched = np.concatenate([one["dtMatches"] for one in results], axis=1)[:, best] > 0
    counted = ~np.concatenate([one["dtIgnore"] for one in results], axis=1)[:, best]
    hits = np.cumsum(matched & counted, axis=1).astype(float)
    misses = np.cumsum(~matched & counted, axis=1).astype(float)
    precision, recall = hits / (misses + hits + np.spacing(1)), hits / wanted
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    curve = np.zeros((len(hits), len(recalls)))
    for row, reached in enumerate(recall):
        places = np.searchsorted(reached, recalls, side="left")
        places = places[places < len(reached)]
        curve[row, : len(places)] = envelope[row, places]
    return curve, recall[:, -1] if len(best) else np.zeros(len(hits))


def _greedy(
    overlaps: FloatMatrix, candidates: list[int], threshold: float, ignored: list[int], crowd: list[bool]
) -> list[tuple[int, int]]:
    """(detection, object) pairs: best candidate first, each takes the object that it overlaps most.

    Objects to be ignored come last, and only a detection that found no other takes one; a crowd is never used up.
    """
    pairs = []
    taken: set[int] = set()
    for found in candidates:
        best, most = -1, threshold
        for index, overlap in enumerate(overlaps[found].tolist()):
            if index in taken and not crowd[index]:
                continue
            if best > -1 and ignored[best] == 0 and ignored[index] == 1:
                break
            if overlap >= most:
                best, most = index, overlap
        if best > -1:
            taken.add(best)
            pairs.append((found, best))
    return pairs
