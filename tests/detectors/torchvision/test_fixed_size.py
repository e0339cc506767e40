"""SSD300: maps of the image, and torchvision's own detections of the resized one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.detectors.capture import run
from edgekd.detectors.spec import Needs
from edgekd.detectors.torchvision.build import build
from edgekd.detectors.torchvision.fixed_size import FixedSizeDetector
from edgekd.errors import InputError

COLUMNS = ("__background__", "cat", "N/A", "dog")


@pytest.fixture(scope="module")
def detector() -> FixedSizeDetector:
    torch.manual_seed(0)
    network: Any = build("ssd300_vgg16", len(COLUMNS))
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        images = torch.rand(1, 3, 300, 300, generator=torch.Generator().manual_seed(0))
        maps = list(network.backbone((images - network.pixel_mean) / network.pixel_std).values())
        for part, spread in ((network.head.classification_head, 1.5), (network.head.regression_head, 0.4)):
            for level, layer in enumerate(part.module_list):
                layer.weight.mul_(spread / layer(maps[level]).std().clamp_min(1e-6))
    return FixedSizeDetector(network, "ssd300_vgg16", COLUMNS)


@pytest.mark.parametrize("size", [pytest.param((300, 300), marks=pytest.mark.slow), (128, 192)])
def test_detections_are_torchvisions(detector: FixedSizeDetector, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    predictor = detector.export_module()
    with torch.no_grad():
        rows: Tensor = predictor(images)
        expected = detector.module(list(images))
    assert rows.shape == (2, 200, 6)
    for found, theirs in zip(rows, expected, strict=True):
        shown = theirs["labels"] != 2  # a number without a class
        count = int(shown.sum())
        assert count > 10
        torch.testing.assert_close(found[:count, 4], theirs["scores"][shown], atol=1e-4, rtol=0)
        classes = torch.tensor([{1: 0.0, 3: 1.0}[label] for label in theirs["labels"][shown].tolist()])
        same = found[:count, 5] == classes
        assert float(same.float().mean()) > 0.95, "equal scores may change places"
        torch.testing.assert_close(found[:count, :4][same], theirs["boxes"][shown][same], atol=2e-2, rtol=0)
        assert not found[count:].any()


def test_regions_are_those_of_torchvisions_detections(detector: FixedSizeDetector) -> None:
    images = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(1))
    parts = Needs(detector.spec.taps, frozenset({"class_logits", "boxes"}))
    with torch.no_grad():
        output, taps = run(detector, images, parts), run(detector, images, Needs(detector.spec.taps)).taps
        rows: Tensor = detector.export_module()(images)[0]
    assert output.regions is not None
    scores, boxes = output.regions.class_logits[0].sigmoid(), output.regions.boxes_px[0]
    assert scores.shape == (8732, 2)
    for row in rows[:20]:
        near = (boxes - row[:4]).abs().amax(-1) < 2e-2
        assert bool((near & ((scores[:, int(row[5])] - row[4]).abs() < 1e-4)).any())
    assert all(torch.equal(value, output.taps[key]) for key, value in taps.items()), "maps are still the image's"


def test_maps_are_those_of_the_image(detector: FixedSizeDetector) -> None:
    images = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        taps = run(detector, images, Needs(detector.spec.taps)).taps
    assert {tap.stride: tuple(taps[tap.key].shape[1:]) for tap in detector.spec.taps_of("neck")} == {
        8: (512, 16, 24), 16: (1024, 8, 12), 32: (512, 4, 6), 64: (256, 2, 3),
    }  # fmt: skip
    assert detector.spec.size_multiple == 64
    assert detector.compute(images, frozenset()) == {}
    with pytest.raises(InputError, match="its head has no towers over the student's points"):
        detector.head_tail("boxes", 0, 0, "one2many")
