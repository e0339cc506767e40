"""Folds batch norms into convolutions of a frozen copy, keeping every branch of the head (the engine's fuse drops one)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any


def fused_copy(module: Any) -> Any:
    """An inference copy of an Ultralytics model: eval mode, batch norms folded, all prediction branches kept.

    Equal to the original in eval mode up to rounding (about 1e-5 relative).
    """
    from ultralytics.nn.modules import Conv, DWConv
    from ultralytics.utils.torch_utils import fuse_conv_and_bn

    copy = deepcopy(module).eval()
    if hasattr(copy, "criterion"):
        copy.criterion = None
    for layer in copy.modules():
        if type(layer) in (Conv, DWConv) and hasattr(layer, "bn"):
            layer.conv = fuse_conv_and_bn(layer.conv, layer.bn)
            delattr(layer, "bn")
            layer.forward = layer.forward_fuse
    return copy
