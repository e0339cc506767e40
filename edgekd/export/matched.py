"""Matched detections: which of torch's detections does an artifact find as well, after threshold and NMS?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.agent.postprocess import Decoded
from edgekd.types import FloatArray

THRESHOLD = 0.25  # of the detections that are looked for
PARTNER_THRESHOLD = 0.125  # of those that may match them: one that fell from 0.251 to 0.249 was found all the same
IOU = 0.5


@dataclass
class Matches:
    """Counts over images so far.

    Attributes:
        detections: of torch, that score at least `THRESHOLD`.
        matched: of these, with a partner of the same class and an IoU of at least `IOU`.
        invented: of the artifact, that score at least `THRESHOLD` and are nobody's partner.
        score_change: sum of absolute differences of scores over matched pairs.
        iou: sum of IoUs over matched pairs.
    """

    detections: int = 0
    matched: int = 0
    invented: int = 0
    score_change: float = 0.0
    iou: float = 0.0

    def add(self, expected: Decoded, actual: Decoded) -> None:
        """Take in one image, decoded at `PARTNER_THRESHOLD` or below: torch's detections and the artifact's."""
        free = actual.scores >= PARTNER_THRESHOLD
        wanted = np.flatnonzero(expected.scores >= THRESHOLD)
        for row in wanted[np.argsort(-expected.scores[wanted], kind="stable")]:
            overlaps = iou_of(expected.boxes_px[row], actual.boxes_px)
            overlaps[~(free & (actual.class_ids == expected.class_ids[row]))] = -1
            partner = int(np.argmax(overlaps)) if len(overlaps) else -1
            if partner >= 0 and overlaps[partner] >= IOU:
                free[partner] = False
                self.matched += 1
                self.score_change += abs(float(actual.scores[partner] - expected.scores[row]))
                self.iou += float(overlaps[partner])
        self.detections += len(wanted)
        self.invented += self._invented(expected, actual, free)

    def as_json(self) -> dict[str, Any]:
        """The part `matched` of `parity.json`; shares and means are None where there is nothing to divide by."""
        return {
            "threshold": THRESHOLD,
            "iou": IOU,
            "detections": self.detections,
            "share": self.share,
            "invented": self.invented,
            "mean_score_change": self.score_change / self.matched if self.matched else None,
            "mean_iou": self.iou / self.matched if self.matched else None,
        }

    @property
    def share(self) -> float | None:
        """Matched of torch's detections."""
        return self.matched / self.detections if self.detections else None

    @staticmethod
    def _invented(expected: Decoded, actual: Decoded, free: Any) -> int:
        """Sure detections without a partner, but for those that torch has with a lower score."""
        count = 0
        for row in np.flatnonzero(free & (actual.scores >= THRESHOLD)):
            weak = (expected.scores < THRESHOLD) & (expected.class_ids == actual.class_ids[row])
            overlaps = iou_of(actual.boxes_px[row], expected.boxes_px[weak])
            count += int(not (overlaps >= IOU).any())
        return count


def iou_of(box: FloatArray, boxes: FloatArray) -> FloatArray:
    """IoU of one box (4,) with boxes (n, 4)."""
    overlap = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None).prod(axis=1)
    area, areas = (np.clip(b[..., 2:] - b[..., :2], 0, None).prod(axis=-1) for b in (box, boxes))
    union = np.maximum(area + areas - overlap, np.float32(1e-9))
    result: FloatArray = overlap / union
    return result
