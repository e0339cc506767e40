"""Folds batch norms into convolutions, and the input convention into the first one, of a copy for inference."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from edgekd.detectors.rtmdet.layers import ConvModule
from edgekd.detectors.rtmdet.network import RTMDet


def fused_copy(network: RTMDet, keep: Sequence[str] = ()) -> RTMDet:
    """A copy in eval mode with batch norms folded; equal to the original up to rounding.

    The head's convolutions become each level's own.

    Args:
        keep: module paths that must stay what they are; what holds or shares one is not folded.
    """
    copy = deepcopy(network).eval()
    held = {id(copy.get_submodule(path)) for path in keep}
    blocks = [part for part in copy.modules() if isinstance(part, ConvModule)]
    for block in blocks:
        if any(id(part) in held for part in block.modules() if part is not block):
            continue
        block.conv = fuse_conv_bn_eval(block.conv, block.bn)
        block.bn = nn.Identity().eval()  # type: ignore[assignment]
    return copy
