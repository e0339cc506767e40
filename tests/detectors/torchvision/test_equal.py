"""Detections are those of torchvision's own `model(images)`, on the same images and with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms

from edgekd.detectors import families
from edgekd.detectors.capture import run
from edgekd.detectors.contract import Asked
from edgekd.detectors.spec import Needs
from edgekd.detectors.torchvision.heads import features

NAMES = ("cat", "dog", "bird")
MODELS = {  # name -> height and width
    "retinanet-p": (64, 96), "fcos-p": (64, 96), "ssdlite-p": (64, 96), "retinanet_resnet50_fpn": (128, 128),
    "retinanet_resnet50_fpn_v2": (128, 128), "fcos_resnet50_fpn": (128, 128),
    "ssdlite320_mobilenet_v3_large": (320, 320),
}  # fmt: skip


def roughened(network: Any, images: Tensor) -> None:
    """Weights of which something is seen: fresh ones give all but equal scores, and boxes that are the anchors."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    maps = features(network, images)
    for part, spread in ((network.head.classification_head, 1.5), (network.head.regression_head, 0.4)):
        if hasattr(part, "module_list"):
            for level, layers in enumerate(part.module_list):
                layers[-1].weight.mul_(spread / layers(maps[level]).std())
            continue
        names = ("cls_logits", "bbox_reg", "bbox_ctrness")
        for last in [getattr(part, name) for name in names if hasattr(part, name)]:
            last.weight.mul_(spread / last(part.conv(maps[0])).std())


def unresized(network: Any, height: int, width: int) -> None:
    """Let torchvision's transform do nothing but normalise."""
    old = network.transform
    network.transform = GeneralizedRCNNTransform(
        height, width, old.image_mean, old.image_std, size_divisible=1, fixed_size=(width, height)
    )


def chosen(boxes: Tensor, scores: Tensor, iou: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """One image's boxes (A, 4) and scores (A, K) through NMS per class: boxes, scores and columns, best first."""
    count, classes = scores.shape
    boxes, labels = boxes[:, None].expand(count, classes, 4).reshape(-1, 4), torch.arange(classes).repeat(count)
    kept = batched_nms(boxes, scores.flatten(), labels, iou)[:most]
    return boxes[kept], scores.flatten()[kept], labels[kept]


@pytest.mark.parametrize("name", MODELS)
def test_detections_are_torchvisions(name: str) -> None:
    height, width = MODELS[name]
    torch.manual_seed(0)
    detector = families.open_detector(None, Asked(name, None, NAMES, 3, "test"))
    network: Any = detector.module
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        roughened(network, images)
    unresized(network, height, width)
    network.score_thresh, network.topk_candidates, network.detections_per_img = -1.0, 1_000_000, 50
    with torch.no_grad():
        expected = network(list(images))
        output = run(detector, images, Needs(parts=frozenset({"class_logits", "boxes"})))
    dense = output.dense["one2many"]
    for index, theirs in enumerate(expected):
        shown = theirs["labels"] > 0  # the background's column of a sigmoid head is no class here
        scores = dense.class_logits[index].sigmoid()
        boxes, found, labels = chosen(dense.boxes_px[index], scores, network.nms_thresh, 50)
        boxes, found, labels = boxes[: shown.sum()], found[: shown.sum()], labels[: shown.sum()]
        assert len(found) > 20
        assert float(found.max() - found.min()) > 0.01, "scores that differ"
        torch.testing.assert_close(found, theirs["scores"][shown], atol=1e-4, rtol=0)
        same = labels + 1 == theirs["labels"][shown]
        assert float(same.float().mean()) > 0.95, "equal scores may change places"
        torch.testing.assert_close(boxes[same], theirs["boxes"][shown][same], atol=1e-4 * width, rtol=0)
