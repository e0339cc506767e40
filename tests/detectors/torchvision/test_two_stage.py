"""Faster R-CNN and Mask R-CNN: maps, and torchvision's own detections."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from edgekd.detectors import families
from edgekd.detectors.capture import run
from edgekd.detectors.contract import Asked
from edgekd.detectors.spec import Needs
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


@pytest.mark.parametrize("name", ["fasterrcnn-p", "maskrcnn_resnet50_fpn"])
def test_regions_are_those_of_torchvisions_detections(name: str) -> None:
    """Each detection whose class is the best of its region is one of them, with its score and box."""
    detector = RegionDetector(roughened(name), name, COLUMNS)
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        rows: Tensor = detector.export_module()(images)
        found = run(detector, images, Needs(parts=frozenset({"class_logits", "boxes"}))).regions
    assert found is not None
    scores = found.class_logits.sigmoid()
    for image in range(2):
        assert float(scores[image].max()) == pytest.approx(float(rows[image, 0, 4]), abs=1e-5)
        best = 0
        for row in rows[image][rows[image, :, 4] > 0]:
            column = int(row[5])
            regions = ((scores[image, :, column] - row[4]).abs() < 1e-5).nonzero().flatten()
            assert len(regions) > 0
            for region in regions[scores[image, regions].argmax(-1) == column]:
                best += int((found.boxes_px[image, region] - row[:4]).abs().max() < 1e-3)
        assert best > 3


def test_regions_that_an_image_does_not_have_are_far_from_any_object() -> None:
    detector = RegionDetector(roughened("fasterrcnn-p"), "fasterrcnn-p", COLUMNS)
    found = detector.compute(torch.zeros(1, 3, 32, 32), frozenset({"boxes"}))
    none = found["boxes"][0].abs().sum(-1) == 0
    assert found["boxes"].shape == (1, 100, 4) and bool(none.any()) and not bool(none.all())
    assert bool((found["scores"][0, none] == -30).all())


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_regions_in_half_precision(how: str) -> None:
    """As a teacher is run in a mixed step, or with `precision: bf16`: boxes are float32 and in the image."""
    detector = RegionDetector(roughened("fasterrcnn-p"), "fasterrcnn-p", COLUMNS)
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = detector.compute(images, frozenset({"boxes"}))["scores"].sigmoid()
    if how == "weights":
        detector.module.bfloat16()
        images = images.bfloat16()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        found = detector.compute(images, frozenset({"boxes"}))
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert bool((found["boxes"] >= 0).all()) and float(found["boxes"].max()) <= WIDTH
    assert float(found["scores"].sigmoid().max()) == pytest.approx(float(whole.max()), abs=0.05)


def test_without_predictions_nothing_behind_the_pyramid_runs() -> None:
    detector = families.open_detector(None, Asked("fasterrcnn-p", None, ("cat",), 3, "test"))
    assert detector.compute(torch.rand(1, 3, 64, 64), frozenset()) == {}
    assert detector.spec.head.kind == "region"
    path = next(name for name, part in detector.module.named_modules() if isinstance(part, nn.Linear))
    assert detector.with_taps([path, "rpn.head.conv"]) is detector, "what runs once per region is no map"
