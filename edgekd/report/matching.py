"""Which detections of one image are right, which are false, and what was missed, at one operating threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekd.measure.boxes import areas_px2, intersections_px2, ious, share
from edgekd.types import Detections, GroundTruth

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Matched:
    """The outcome for one image; the rule is that of `edgekd.measure.average_precision.operating_point`.

    Attributes:
        detections: those at or above the threshold.
        right: (N,) per detection: it has an object of its own.
        ignored: (N,) per detection: it is not right, but lies in a crowd box of its class.
        missed: (M,) per object of the ground truth: no detection has it; False for crowd boxes.
    """

    detections: Detections
    right: Flags
    ignored: Flags
    missed: Flags

    @property
    def false_alarms(self) -> int:
        """Detections that are neither right nor ignored."""
        return int((~self.right & ~self.ignored).sum())

    @property
    def errors(self) -> int:
        """False alarms and missed objects."""
        return self.false_alarms + int(self.missed.sum())


def match_image(truth: GroundTruth, found: Detections, threshold: float, least_iou: float = 0.5) -> Matched:
    """Per class, the best-scoring detection chooses first the free object that it overlaps most."""
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= threshold]
    kept = Detections(found.boxes_px[order], found.scores[order], found.class_ids[order])
    same_class = kept.class_ids[:, None] == truth.class_ids
    free = ious(kept.boxes_px, truth.boxes_px) * (same_class & ~truth.is_crowd)
    shared = intersections_px2(kept.boxes_px, truth.boxes_px)
    own = np.broadcast_to(areas_px2(kept.boxes_px)[:, None], shared.shape)
    in_crowd = share(shared, own) * (same_class & truth.is_crowd)
    right = np.zeros(len(order), np.bool_)
    missed = ~truth.is_crowd
    for row in range(len(order)):
        nearest = int(free[row].argmax()) if free.shape[1] else -1
        if nearest >= 0 and free[row, nearest] >= least_iou:
            right[row] = True
            missed[nearest] = False
            free[:, nearest] = -1
    ignored = ~right & (in_crowd >= least_iou).any(axis=1)
    return Matched(kept, right, ignored, missed)
