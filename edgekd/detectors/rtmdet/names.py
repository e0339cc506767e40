"""Names of weights in checkpoints of others, brought to mmdetection's.

mmyolo has the same network under other names: its head stands in a module of its own, and its neck keeps what makes the
map narrower with the block above it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_MMYOLO_NECK = {  # by prefix; the longer ones first
    "neck.reduce_layers.2.": "neck.reduce_layers.0.",
    "neck.top_down_layers.0.0.": "neck.top_down_blocks.0.",
    "neck.top_down_layers.0.1.": "neck.reduce_layers.1.",
    "neck.top_down_layers.1.": "neck.top_down_blocks.1.",
    "neck.downsample_layers.": "neck.downsamples.",
    "neck.bottom_up_layers.": "neck.bottom_up_blocks.",
    "neck.out_layers.": "neck.out_convs.",
}
_MMYOLO_HEAD = "bbox_head.head_module."
_NO_WEIGHTS = ("data_preprocessor.",)  # mean and std of the input


def is_mmyolo(names: Mapping[str, Tensor]) -> bool:
    """Whether weights are named as mmyolo does."""
    return any(name.startswith(_MMYOLO_HEAD) for name in names)


def as_mmdetection(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under mmdetection's names, without what a wrapper put before them."""
    plain = {name.removeprefix("module."): value for name, value in tensors.items()}
    own = {name: value for name, value in plain.items() if not name.startswith(_NO_WEIGHTS)}
    return {_renamed(name): value for name, value in own.items()} if is_mmyolo(own) else own


def _renamed(name: str) -> str:
    if name.startswith(_MMYOLO_HEAD):
        return f"bbox_head.{name.removeprefix(_MMYOLO_HEAD)}"
    for theirs, ours in _MMYOLO_NECK.items():
        if name.startswith(theirs):
            return f"{ours}{name.removeprefix(theirs)}"
    return name
