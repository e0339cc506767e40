"""What an RTMDet is, known from its architecture: its spec and its taps."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.detectors import probing
from edgekd.detectors.rtmdet.network import RTMDet
from edgekd.detectors.rtmdet.scales import STACKED_CONVS, STRIDES
from edgekd.detectors.spec import DenseHead, Part, Role, Spec, Tap, Tower


def describe(network: RTMDet, name: str) -> Spec:
    """The spec of a network."""
    return Spec(
        family="rtmdet",
        name=name,
        class_names=network.class_names,
        input_channels=network.channels,
        size_multiple=max(STRIDES),
        taps=_taps(network),
        head=DenseHead(STRIDES, point_offset=0.0),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        towers=_towers(network),
    )


def _taps(network: RTMDet) -> tuple[Tap, ...]:
    """Each stage, each map of the neck, and behind each tower of the head."""
    last, width = STACKED_CONVS - 1, network.scale.levels[0]
    taps = []
    for level, (stride, channels) in enumerate(zip(STRIDES, network.scale.levels, strict=True)):
        places: list[tuple[Role, str, int]] = [
            ("backbone", f"backbone.stage{level + 2}", channels),
            ("neck", f"neck.out_convs.{level}", width),
            ("head_cls", f"bbox_head.cls_convs.{level}.{last}", width),
            ("head_box", f"bbox_head.reg_convs.{level}.{last}", width),
        ]
        taps += [Tap(role, path, stride, count, part=head_part(path)) for role, path, count in places]
    return tuple(sorted(taps, key=lambda tap: (tap.role, tap.stride)))


def _towers(network: RTMDet) -> tuple[Tower, ...]:
    """Behind every convolution of every tower."""
    places: dict[Part, tuple[Role, str]] = {
        "class_logits": ("head_cls", "cls_convs"),
        "boxes": ("head_box", "reg_convs"),
    }
    width = network.scale.levels[0]
    return tuple(
        Tower(
            part,
            level,
            "one2many",
            tuple(
                Tap(role, f"bbox_head.{name}.{level}.{layer}", stride, width, part=part)
                for layer in range(STACKED_CONVS)
            ),
        )
        for part, (role, name) in places.items()
        for level, stride in enumerate(STRIDES)
    )


def head_part(path: str) -> Part | None:
    """What of the head must be asked for so that a module runs; None for everything before the head."""
    if not path.startswith("bbox_head."):
        return None
    return "boxes" if path.split(".")[1] in ("reg_convs", "rtm_reg") else "class_logits"


def named_taps(network: RTMDet, paths: Sequence[str]) -> tuple[Tap, ...]:
    """Taps at modules that a recipe names; of a convolution that all levels share, one per level."""
    return probing.named_taps(network, paths, network, network.channels, head_part)
