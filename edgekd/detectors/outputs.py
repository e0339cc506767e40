"""What goes into a pass of a detector and what comes out of it, in one form for all families."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from edgekd.detectors.parts import Proposals
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.regions import RegionPredictions, Regions, strongest


@dataclass(frozen=True)
class View:
    """What the images of a batch show.

    Attributes:
        image_ids: (B,) int64, places in the split, from 0: the same in every epoch, on every rank and machine. Of a
            mixed image that of its first part.
        content_px: (B, 4), x1 y1 x2 y2: outside there is nothing but padding. Of a rotated image the upright box.
        mixed: (B,) bool; parts of several images are in it (mosaic, mixup, cutmix).
        labelled: (B,) bool; False where objects were never marked, in the image or a part of it: its boxes are not all.
        all_labelled: whether all are, known without asking the device.
    """

    image_ids: Tensor
    content_px: Tensor
    mixed: Tensor
    labelled: Tensor
    all_labelled: bool = True

    @classmethod
    def whole(cls, images: Tensor) -> View:
        """Of images (B, C, H, W) of which nothing else is known: ids -1, no padding, not mixed, labelled."""
        count, height, width = images.shape[0], images.shape[2], images.shape[3]
        content = torch.tensor([0.0, 0.0, width, height], device=images.device).expand(count, 4)
        no = torch.zeros(count, dtype=torch.bool, device=images.device)
        return cls(torch.full((count,), -1, device=images.device), content, no, ~no)


@dataclass(frozen=True)
class Batch:
    """Augmented images with their ground truth.

    Attributes:
        images: (B, C, H, W) in 0..1.
        image_index: (M,) int64, the image of each ground-truth box.
        class_ids: (M,) int64.
        boxes_px: (M, 4), x1 y1 x2 y2 in pixels of `images`.
        engine: the batch as the training engine made it, for a family whose loss is the engine's.
        shown: what is known of the images; read `view`.
    """

    images: Tensor
    image_index: Tensor
    class_ids: Tensor
    boxes_px: Tensor
    engine: dict[str, Any] | None = field(default=None, repr=False)
    shown: View | None = field(default=None, repr=False)

    @cached_property
    def view(self) -> View:
        """Which images these are, what of them is padding, which are mixed, and which have labels."""
        return self.shown or View.whole(self.images)

    @property
    def size(self) -> int:
        """B."""
        return int(self.images.shape[0])

    @cached_property
    def rows(self) -> Tensor:
        """(B, most boxes of an image) int64: the row of each image's n-th box, -1 where it has fewer."""
        counts = torch.bincount(self.image_index, minlength=self.size)
        order = torch.argsort(self.image_index, stable=True)
        most = int(counts.max()) if len(counts) else 0
        place = torch.arange(most, device=order.device).expand(self.size, most)
        rows = torch.full((self.size, most), -1, dtype=torch.int64, device=order.device)
        rows[place < counts[:, None]] = order
        return rows


@dataclass(frozen=True)
class Assignment:
    """Which points a student's loss makes positive, and for which ground truth.

    Attributes:
        foreground: (B, A) bool.
        box_index: (B, A) int64, the row of the `Batch`'s boxes; -1 at the background.
        class_targets: (B, A, K) soft class targets, zero at the background.
    """

    foreground: Tensor
    box_index: Tensor
    class_targets: Tensor


@dataclass
class DensePredictions:
    """Predictions of one branch of a dense head. A = all points of all levels, finest level first.

    Attributes:
        points_px: (A, 2) x, y.
        point_strides: (A,).
        level_sizes: (H, W) per level; their products sum to A.
        decode: gives boxes (B, A, 4), x1 y1 x2 y2 px; called at most once, and only when boxes are asked for.
        logits: (B, A, K); None where they were not asked for. Read `class_logits`.
        box_logits: (B, A, 4, bins) of left, top, right, bottom; None without a distribution.
        known_classes: (K,) bool; False where the detector does not know the class (its logits are meaningless there).
            None: all known.
        assigned: of a student in training, where it was asked for. Read `assignment`.
    """

    points_px: Tensor
    point_strides: Tensor
    level_sizes: tuple[tuple[int, int], ...]
    decode: Callable[[], Tensor] = field(repr=False)
    logits: Tensor | None = None
    box_logits: Tensor | None = None
    known_classes: Tensor | None = None
    assigned: Assignment | None = None

    @property
    def class_logits(self) -> Tensor:
        """(B, A, K)."""
        if self.logits is None:
            raise RuntimeError("class logits were not computed: add 'class_logits' to the method's needs")
        return self.logits

    @cached_property
    def boxes_px(self) -> Tensor:
        """(B, A, 4), x1 y1 x2 y2 in input pixels."""
        return self.decode()

    @property
    def assignment(self) -> Assignment:
        """Of a student in training."""
        if self.assigned is None:
            raise RuntimeError("the assignment was not kept: add 'assignment' to the method's needs of the student")
        return self.assigned


@dataclass
class DetectorOutput:
    """One forward pass.

    Attributes:
        taps: key of the tap -> (B, C, H, W), for the taps that were asked for.
        dense: branch -> predictions, for dense heads.
        queries: predictions of a query head.
        regions: predictions of a region head.
    """

    taps: Mapping[str, Tensor]
    dense: Mapping[str, DensePredictions] = field(default_factory=dict)
    queries: QueryPredictions | None = None
    regions: RegionPredictions | None = None

    def proposals(self, asked: Proposals, images: Tensor) -> tuple[Regions, Tensor]:
        """Regions of (B, C, H, W) images that the detector proposes, best first, and their scores (B, R).

        Those are of the best class that the detector knows. Of a query head the last layer proposes, of a dense head
        the first branch. Detached, in float32.
        """
        boxes, scores = self._scored_boxes()
        return strongest(
            boxes, scores, images, limit=asked.limit, nms_iou=asked.nms_iou, min_score=asked.min_score
        )  # fmt: skip

    def _scored_boxes(self) -> tuple[Tensor, Tensor]:
        """(B, A, 4) px, and the best score (B, A) of a class that is known."""
        if self.queries is not None:
            boxes, logits, known = self.queries.boxes_px[-1], self.queries.class_logits[-1], self.queries.known_classes
        elif self.regions is not None:
            boxes, logits, known = self.regions.boxes_px, self.regions.class_logits, self.regions.known_classes
        elif self.dense:
            dense = next(iter(self.dense.values()))
            boxes, logits, known = dense.boxes_px, dense.class_logits, dense.known_classes
        else:
            raise RuntimeError("proposals were not computed: add `Proposals` to the method's needs")
        scores = logits.detach().float().sigmoid()
        return boxes.detach().float(), (scores if known is None else scores * known).amax(-1)


@dataclass(frozen=True)
class Guidance:
    """How a teacher steers the student's own loss.

    Attributes:
        assign_by: branch of the student -> (scores (B, A, K) in 0..1, boxes (B, A, 4) px) that take the place of the
            student's own predictions where its loss decides which points are positive. Empty: the student decides.
    """

    assign_by: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass
class TrainingPass:
    """A student's forward pass on a batch and its own loss.

    Attributes:
        loss: (n,), summed by the engine.
        items: its parts by name, detached, to log.
        output: what methods read, connected to the loss's own tensors.
        anchors: tensors from which both the loss and the methods' terms come, by name; gradients are measured there.
    """

    loss: Tensor
    items: dict[str, Tensor]
    output: DetectorOutput
    anchors: dict[str, Tensor]
