"""What every detector does whose predictions become regions: one with a region head, and any other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgekd.detectors.capture import run
from edgekd.detectors.contract import Detector
from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.parts import Proposals
from edgekd.detectors.regions import overlaps
from edgekd.detectors.spec import Needs, RegionHead
from edgekd.testing.predictions import images_of


class RegionContract:
    """Part of `DetectorContract`."""

    def open(self) -> Detector:
        """See `DetectorContract`."""
        raise NotImplementedError

    def test_proposals(self) -> None:
        """Of a head of any kind that gives predictions; they are asked for as a part, and made of others."""
        detector, asked = self.open(), Proposals(limit=7, nms_iou=0.5)
        images, needs = images_of(detector.spec, 2), Needs(parts=frozenset({asked}))
        assert not needs.at_points
        with torch.no_grad():
            output = run(detector, images, needs)
        if isinstance(detector.spec.head, RegionHead) and not detector.spec.head.gives:
            with pytest.raises(RuntimeError, match="add `Proposals`"):
                output.proposals(asked, images)
        else:
            check_proposals(output, asked, images)


def check_regions(output: DetectorOutput, head: RegionHead, images: Tensor, classes: int) -> None:
    """Boxes in the image with the logits of all classes, where the head gives its predictions."""
    assert (dict(output.dense), output.queries) == ({}, None)
    found = output.regions
    if not head.gives:
        assert found is None
        return
    assert found is not None
    count = found.boxes_px.shape[1]
    assert count > 0
    assert found.boxes_px.shape == (len(images), count, 4)
    assert found.class_logits.shape == (len(images), count, classes)
    assert torch.isfinite(found.class_logits).all()
    assert found.known_classes is None
    height, width = images.shape[2:]
    assert bool((found.boxes_px >= -1e-3).all())
    assert bool((found.boxes_px[..., 2:] <= found.boxes_px.new_tensor([width, height]) + 1e-3).all())


def check_proposals(output: DetectorOutput, asked: Proposals, images: Tensor) -> None:
    """Of any head: so many at most, best first, in the image, and none on top of another."""
    regions, scores = output.proposals(asked, images)
    count = regions.boxes_px.shape[1]
    assert 0 < count <= asked.limit
    assert scores.shape == regions.valid.shape == (len(images), count)
    assert regions.valid.any(1).all()
    assert bool((scores[regions.valid] > asked.min_score).all())
    assert bool((scores[:, :-1] >= scores[:, 1:])[regions.valid[:, 1:]].all())
    height, width = images.shape[2:]
    boxes = regions.rows_px
    assert bool((boxes >= 0).all())
    assert bool((boxes[:, 2:] <= boxes.new_tensor([width, height])).all())
    apart = overlaps(regions, regions).masked_fill(torch.eye(count, dtype=torch.bool), 0)
    assert float(apart.max()) <= asked.nms_iou
    assert not regions.boxes_px.requires_grad
