"""The models that can be opened, by torchvision's own names, and small members of each kind (`-p`) for small data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekd.errors import InputError, unknown

Kind = Literal["retinanet", "fcos", "ssd", "ssd300", "faster_rcnn"]
Places = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Model:
    """Where things are in a model.

    Attributes:
        kind: its architecture; Mask R-CNN is a Faster R-CNN whose masks are not used.
        backbone: path and stride of the stages.
        levels: path and stride of the maps that the head reads, finest first, as far as modules give them and a map has
            whole cells at every size of image (SSD300).
        anchors: predictions at each point of each level.
        class_layer: weight whose rows are `anchors` times the columns of the class logits.
        coco_eps: of the frozen batch norms of the weights that torchvision publishes for COCO.
    """

    kind: Kind
    backbone: Places
    levels: Places
    anchors: int
    class_layer: str
    coco_eps: float = 1e-5

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the levels."""
        return tuple(stride for _, stride in self.levels)


_CONVOLUTION = "head.classification_head.cls_logits.weight"
_BOX_CLASSES = "roi_heads.box_predictor.cls_score.weight"
_RESNET = tuple((f"backbone.body.layer{index}", 2 << index) for index in range(1, 5))
_LARGE = (("backbone.body.6", 8), ("backbone.body.12", 16), ("backbone.body.16", 32))
_SMALL = (("backbone.body.3", 8), ("backbone.body.8", 16), ("backbone.body.12", 32))


def _pyramid(*strides: int) -> Places:
    return tuple((f"backbone.fpn.layer_blocks.{index}", stride) for index, stride in enumerate(strides))


_P3_TO_P7 = (*_pyramid(8, 16, 32), ("backbone.fpn.extra_blocks.p6", 64), ("backbone.fpn.extra_blocks.p7", 128))
_P2_TO_P5 = _pyramid(4, 8, 16, 32)
_P5 = (("backbone.fpn.layer_blocks.1", 32),)  # the other map of its pyramid has this stride, too
_SSDLITE = (
    *((f"backbone.features.{index}", 16 << index) for index in range(2)),
    *((f"backbone.extra.{index}", 64 << index) for index in range(4)),
)
MODELS: dict[str, Model] = {
    "retinanet_resnet50_fpn": Model("retinanet", _RESNET, _P3_TO_P7, 9, _CONVOLUTION, coco_eps=0.0),
    "retinanet_resnet50_fpn_v2": Model("retinanet", _RESNET, _P3_TO_P7, 9, _CONVOLUTION),
    "retinanet-p": Model("retinanet", _SMALL, _pyramid(8, 16, 32), 9, _CONVOLUTION),
    "fcos_resnet50_fpn": Model("fcos", _RESNET, _P3_TO_P7, 1, _CONVOLUTION),
    "fcos-p": Model("fcos", _SMALL, _pyramid(8, 16, 32), 1, _CONVOLUTION),
    "ssdlite320_mobilenet_v3_large": Model(
        "ssd", (("backbone.features.0.6", 8),), _SSDLITE, 6, "head.classification_head.module_list.0.1.weight"
    ),
    "ssdlite-p": Model(
        "ssd", (("backbone.1", 4),), (("backbone.3", 8), ("backbone.8", 16), ("backbone.12", 32)), 6,
        "head.classification_head.module_list.0.1.weight",
    ),
    "ssd300_vgg16": Model(
        "ssd300", (("backbone.features.15", 4),),
        (("backbone.features", 8), ("backbone.extra.0", 16), ("backbone.extra.1", 32), ("backbone.extra.2", 64)), 4,
        "head.classification_head.module_list.0.weight",
    ),
    "fasterrcnn_resnet50_fpn": Model("faster_rcnn", _RESNET, _P2_TO_P5, 1, _BOX_CLASSES, coco_eps=0.0),
    "fasterrcnn_resnet50_fpn_v2": Model("faster_rcnn", _RESNET, _P2_TO_P5, 1, _BOX_CLASSES),
    "fasterrcnn_mobilenet_v3_large_fpn": Model("faster_rcnn", _LARGE, _P5, 1, _BOX_CLASSES),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Model("faster_rcnn", _LARGE, _P5, 1, _BOX_CLASSES),
    "fasterrcnn-p": Model("faster_rcnn", _SMALL, _pyramid(8, 16, 32), 1, _BOX_CLASSES),
    "maskrcnn_resnet50_fpn": Model("faster_rcnn", _RESNET, _P2_TO_P5, 1, _BOX_CLASSES, coco_eps=0.0),
    "maskrcnn_resnet50_fpn_v2": Model("faster_rcnn", _RESNET, _P2_TO_P5, 1, _BOX_CLASSES),
}  # fmt: skip


def known(name: str, where: str) -> Model:
    """The model of a name.

    Raises:
        InputError: there is none.
    """
    if name not in MODELS:
        raise InputError(f"{where}: {unknown('model', name, list(MODELS))}")
    return MODELS[name]
