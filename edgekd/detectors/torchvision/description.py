"""What a detector of torchvision is: its spec and its taps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from edgekd.detectors.probing import named_taps, shapes_of
from edgekd.detectors.spec import DenseHead, Head, Part, RegionHead, Role, Spec, Tap
from edgekd.detectors.torchvision import heads
from edgekd.detectors.torchvision.build import first_convolution
from edgekd.detectors.torchvision.models import MODELS, Model

_GIVEN: tuple[Literal["class_logits", "boxes"], ...] = ("class_logits", "boxes")
_LEAST = 32  # a smaller side has no map at the backbone's end
_TOWERS: tuple[tuple[Role, str, Part], ...] = (
    ("head_cls", "head.classification_head", "class_logits"),
    ("head_box", "head.regression_head", "boxes"),
)


def describe(network: nn.Module, name: str, class_names: tuple[str, ...]) -> Spec:
    """The spec of a network; `name` is one of `MODELS`."""
    model = MODELS[name]
    return Spec(
        family="torchvision",
        name=name,
        class_names=class_names,
        input_channels=first_convolution(network)[1].in_channels,
        size_multiple=_size_multiple(model),
        taps=_taps(network, model),
        head=_head(network, model),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def run_whole(network: nn.Module, model: Model, images: Tensor) -> None:
    """A pass in which every module before the scores runs."""
    maps = heads.features(network, images)
    if model.kind in ("faster_rcnn", "ssd300"):
        return
    heads.outputs(network, model.kind, maps, frozenset({"class_logits", "boxes"}), (0,))


def taps_at(network: nn.Module, name: str, paths: Sequence[str]) -> tuple[Tap, ...]:
    """See `named_taps`."""
    channels = first_convolution(network)[1].in_channels
    model = MODELS[name]
    size_px = max(model.strides)
    return named_taps(
        network, paths, lambda images: run_whole(network, model, images), channels, head_part, max(size_px, 64)
    )


def head_part(path: str) -> Part | None:
    """What of the head must be asked for so that a module runs; None for everything before the head."""
    return next((part for _, begin, part in _TOWERS if path.startswith(f"{begin}.")), None)


def _size_multiple(model: Model) -> int:
    """Of a pyramid of anchors: where all maps have whole cells, so that torchvision's anchors lie as far apart as the
    strides say. SSD's boxes are at fractions of the image, whatever its size; Faster R-CNN's are given as boxes."""
    return _LEAST if model.kind == "ssd" else max(_LEAST, *model.strides)


def _head(network: nn.Module, model: Model) -> Head:
    """Anchors lie around the upper left corners of cells, SSD's boxes around their centres."""
    if model.kind == "faster_rcnn":
        classes = network.get_submodule(model.class_layer.removesuffix(".weight"))
        assert isinstance(classes, nn.Linear)
        return RegionHead(classes.in_features, gives=_GIVEN)
    if model.kind == "ssd300":
        return RegionHead(_channels_of_first_level(network), gives=_GIVEN)
    offset = 0.5 if model.kind == "ssd" else 0.0
    return DenseHead(model.strides, point_offset=offset, anchors_per_cell=model.anchors)


def _channels_of_first_level(network: nn.Module) -> int:
    classes = network.get_submodule("head.classification_head.module_list.0")
    assert isinstance(classes, nn.Conv2d)
    return classes.in_channels


def _taps(network: nn.Module, model: Model) -> tuple[Tap, ...]:
    """Each stage, each map that the head reads, and behind each tower of the head at each level."""
    places: list[tuple[Role, str, int, int, Part | None]] = []
    places += [("backbone", path, stride, 0, None) for path, stride in model.backbone]
    places += [("neck", path, stride, 0, None) for path, stride in model.levels]
    if model.kind in ("retinanet", "fcos"):
        places += [
            (role, f"{path}.conv", stride, call, part)
            for role, path, part in _TOWERS
            for call, stride in enumerate(model.strides)
        ]
    channels = first_convolution(network)[1].in_channels
    paths = dict.fromkeys(path for _, path, *_ in places)
    shapes = shapes_of(
        network, paths, lambda images: run_whole(network, model, images), channels, max(*model.strides, 64)
    )  # fmt: skip
    return tuple(
        Tap(role, path, stride, shapes[path][call][1], call=call, part=part)
        for role, path, stride, call, part in sorted(places, key=lambda one: (one[0], one[2]))
    )
