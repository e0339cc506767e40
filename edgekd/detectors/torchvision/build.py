"""Builds networks by torchvision's own builders, without weights; nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

_WIDTH = 64  # channels of a small member's pyramid


def build(name: str, columns: int, channels: int = 3) -> nn.Module:
    """A network with random weights from torch's global generator, in eval mode.

    Args:
        name: one of `models.MODELS`.
        columns: of the class logits, the background's included.
        channels: C of the images. Other numbers than three have a first convolution of their own.
    """
    from torchvision.models import detection

    own: Callable[[int], nn.Module] | None = _SMALL.get(name)
    network: Any = (
        own(columns) if own else getattr(detection, name)(weights=None, weights_backbone=None, num_classes=columns)
    )
    mean, std = torch.tensor(network.transform.image_mean), torch.tensor(network.transform.image_std)
    if channels != mean.numel():
        _widen(network, channels)
        mean, std = mean.mean().expand(channels), std.mean().expand(channels)
        network.transform.image_mean, network.transform.image_std = mean.tolist(), std.tolist()
    network.register_buffer("pixel_mean", mean.reshape(1, -1, 1, 1).clone(), persistent=False)
    network.register_buffer("pixel_std", std.reshape(1, -1, 1, 1).clone(), persistent=False)
    return network.eval()  # type: ignore[no-any-return]


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """The one that reads the image, and its path."""
    return next((path, part) for path, part in network.named_modules() if isinstance(part, nn.Conv2d))


def _widen(network: nn.Module, channels: int) -> None:
    path, old = first_convolution(network)
    assert isinstance(old.padding, tuple)
    fresh = nn.Conv2d(
        channels, old.out_channels, (old.kernel_size[0], old.kernel_size[1]), (old.stride[0], old.stride[1]),
        (int(old.padding[0]), int(old.padding[1])), bias=old.bias is not None,
    )  # fmt: skip
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, fresh)


def _features() -> Any:
    """MobileNetV3-Small; behind its parts 3, 8 and 12 lie maps of strides 8, 16 and 32."""
    from torchvision.models import mobilenet_v3_small

    return mobilenet_v3_small(weights=None).features


def _pyramid() -> Any:
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    features = _features()
    places = {"3": "0", "8": "1", "12": "2"}
    backbone = BackboneWithFPN(features, places, [features[int(place)].out_channels for place in places], _WIDTH)
    backbone.fpn.extra_blocks = None  # no fourth level
    return backbone


def _retinanet(columns: int) -> Any:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.retinanet import RetinaNet

    sizes = tuple((size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in (32, 64, 128))
    return RetinaNet(_pyramid(), columns, anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)))


def _fcos(columns: int) -> Any:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOS, FCOSHead

    anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    return FCOS(_pyramid(), columns, anchor_generator=anchors, head=FCOSHead(_WIDTH, 1, columns, num_convs=2))


def _ssdlite(columns: int) -> Any:
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD
    from torchvision.models.detection.ssdlite import SSDLiteHead

    features, places = _features(), {"3": "0", "8": "1", "12": "2"}
    boxes = DefaultBoxGenerator([[2, 3]] * len(places), min_ratio=0.2, max_ratio=0.95)
    widths = [features[int(place)].out_channels for place in places]
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    head = SSDLiteHead(widths, boxes.num_anchors_per_location(), columns, norm)
    half = [0.5, 0.5, 0.5]
    backbone = IntermediateLayerGetter(features, places)
    return SSD(
        backbone, boxes, (320, 320), columns, head=head, image_mean=half, image_std=half, score_thresh=0.001,
        nms_thresh=0.55, detections_per_img=300, topk_candidates=300,
    )  # fmt: skip


_SMALL: dict[str, Callable[[int], nn.Module]] = {
    "retinanet-p": _retinanet, "fcos-p": _fcos, "ssdlite-p": _ssdlite,
}  # fmt: skip
