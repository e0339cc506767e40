"""Faster R-CNN and Mask R-CNN: maps, and torchvision's own detections."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from edgekd.detectors import families
from edgekd.detectors.contract import Asked
from edgekd.detectors.torchvision.build import build
from edgekd.detectors.torchvision.two_stage import RegionDetector

HEIGHT, WIDTH = 64, 96
COLUMNS = ("__background__", "cat", "N/A", "dog")


def roughened(name: str) -> Any:
    """A network whose proposals and scores differ."""
    torch.manual_seed(0)
    network: Any = build(name, len(COLUMNS))
    with torch.no_grad():
        for layer in (network.rpn.head.cls_logits, network.roi_heads.box_predictor.cls_score):
            layer.weight.normal_(std=2.0)
        network.roi_heads.box_predictor.bbox_pred.weight.normal_(std=0.5)
        _rescaled(network.roi_heads.box_predictor, RegionDetector(network, name, COLUMNS).export_module())
    return network


def _rescaled(part: Any, predictor: Any) -> None:
    """Let class logits and box codes have deviation 1 and 0.5, whatever the fresh layers below make of noise."""
    spreads: list[list[Tensor]] = []
    seen = predictor.network.roi_heads.box_predictor
    handle = seen.register_forward_hook(lambda _module, _inputs, outputs: spreads.append([o.std() for o in outputs]))
    predictor(torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)))
    handle.remove()
    part.cls_score.weight.div_(spreads[0][0])
    part.bbox_pred.weight.div_(2 * spreads[0][1])


@pytest.mark.parametrize("name", ["fasterrcnn-p", "fasterrcnn_mobilenet_v3_large_fpn", "maskrcnn_resnet50_fpn"])
def test_detections_are_torchvisions(name: str) -> None:
    network = roughened(name)
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    predictor = RegionDetector(network, name, COLUMNS).export_module()
    old = network.transform
    network.transform = GeneralizedRCNNTransform(
        HEIGHT, WIDTH, old.image_mean, old.image_std, size_divisible=1, fixed_size=(WIDTH, HEIGHT)
    )
    with torch.no_grad():
        rows: Tensor = predictor(images)
        expected = network(list(images))
    assert rows.shape == (2, 100, 6)
    for found, theirs in zip(rows, expected, strict=True):
        shown = theirs["labels"] != 2  # a number without a class
        count = int(shown.sum())
        assert count > 3
        torch.testing.assert_close(found[:count, :4], theirs["boxes"][shown], atol=1e-4 * WIDTH, rtol=0)
        torch.testing.assert_close(found[:count, 4], theirs["scores"][shown], atol=1e-4, rtol=0)
        assert found[:count, 5].tolist() == [{1: 0, 3: 1}[label] for label in theirs["labels"][shown].tolist()]
        assert not found[count:].any()


def test_no_part_of_the_head_is_given() -> None:
    detector = families.open_detector(None, Asked("fasterrcnn-p", None, ("cat",), 3, "test"))
    assert detector.compute(torch.rand(1, 3, 64, 64), frozenset({"class_logits", "boxes"})) == {}
    assert detector.spec.head.kind == "region"
    path = next(name for name, part in detector.module.named_modules() if isinstance(part, nn.Linear))
    assert detector.with_taps([path, "rpn.head.conv"]) is detector, "nothing behind the pyramid runs"
