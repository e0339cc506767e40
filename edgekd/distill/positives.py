"""Points that a student's own loss made positive, as rows."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from edgekd.detectors.outputs import Batch


@dataclass(frozen=True)
class Positives:
    """P positive points of a batch.

    Attributes:
        image, point: (P,) int64, where they are among (B, A).
        box_index: (P,) int64, the row of each one's ground truth in the batch.
        boxes_px: (P, 4), that ground truth.
        class_ids: (P,) int64, its class.
        weight: (P,), the sum of the point's class targets: what the student's own box loss weights it with.
    """

    image: Tensor
    point: Tensor
    box_index: Tensor
    boxes_px: Tensor
    class_ids: Tensor
    weight: Tensor

    @classmethod
    def of_assignment(
        cls, foreground: Tensor, box_index: Tensor, class_targets: Tensor, batch: Batch, known: Tensor | None
    ) -> Positives:
        """Of (B, A), (B, A) and (B, A, K).

        Args:
            known: (K,) bool; objects of other classes are left out. None: all are known.
        """
        image, point = foreground.nonzero(as_tuple=True)
        rows = box_index[image, point]
        if known is not None:
            kept = known[batch.class_ids[rows]]
            image, point, rows = image[kept], point[kept], rows[kept]
        weight = class_targets[image, point].detach().float().sum(-1)
        return cls(image, point, rows, batch.boxes_px[rows], batch.class_ids[rows], weight)

    def of(self, values: Tensor) -> Tensor:
        """Rows (P, ...) of (B, A, ...)."""
        return values[self.image, self.point]

    def mean(self, values: Tensor) -> Tensor:
        """Weighted mean of (P,): divided by the sum of weights, or by 1 where that is less."""
        return (values * self.weight).sum() / self.weight.sum().clamp_min(1.0)
