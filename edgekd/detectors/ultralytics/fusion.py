"""Folds batch norms into convolutions of a frozen copy.

Unlike the engine's own fuse, every branch of the head is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any


def fused_copy(module: Any, keep: Sequence[str] = ()) -> Any:
    """An inference copy of an Ultralytics model: eval mode, batch norms folded, all prediction branches kept.

    Equal to the original in eval mode up to rounding (about 1e-5 relative).

    Args:
        keep: module paths that must stay what they are; blocks that hold one are not folded.
    """
    from ultralytics.nn.modules import Conv, DWConv
    from ultralytics.utils.torch_utils import fuse_conv_and_bn

    copy = deepcopy(module).eval()
    if hasattr(copy, "criterion"):
        copy.criterion = None
    for name, layer in copy.named_modules():
        held = any(path.startswith(f"{name}.") for path in keep)
        if type(layer) in (Conv, DWConv) and hasattr(layer, "bn") and not held:
            layer.conv = fuse_conv_and_bn(layer.conv, layer.bn)
            delattr(layer, "bn")
            layer.forward = layer.forward_fuse
    return copy
