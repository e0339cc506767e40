"""Number formats of the student's step: what the device can do, and whether mixed precision gives what it should."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from edgekd.detectors.capture import run
from edgekd.detectors.contract import Trainable
from edgekd.detectors.spec import Needs
from edgekd.errors import EnvironmentFault, InputError
from edgekd.progress import say
from edgekd.training.engines.shell import detector_in

# ||mixed - float32|| / ||float32|| of the maps that reach the head. With fresh weights, which magnify rounding, fp16 is
# at 0.02 to 0.03 for YOLO and at 0.35 for RT-DETR; other maps altogether would be at 1 or more.
LARGEST_DIFFERENCE = 0.7
_IMAGES = 8


def require_amp(amp: Any, device: torch.device) -> None:
    """Refuse a format that the device does not compute in; what the engine checks in its first step, with a traceback.

    Args:
        amp: the engine's argument: true or fp16, bf16, false or fp32.

    Raises:
        InputError: bf16 on something that is no GPU.
        EnvironmentFault: this GPU does not have bf16.
    """
    if amp != "bf16":
        return
    if device.type != "cuda":
        raise InputError(f"train.amp: bf16 is for a GPU, the student is trained on {device}; use false")
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise EnvironmentFault("train.amp: this GPU does not compute in bf16; use true (fp16) or false")


def amp_is_sound(model: nn.Module) -> bool:
    """Whether the engine shall train in mixed precision; stands in for its own check.

    That one asks a YOLO26n that it would download. Here the student answers for itself, with its initial weights: maps
    from a few random images, once in float32 and once mixed. Nothing is loaded or written, and no random state moves.
    On a CPU the answer is no, as the engine's is.
    """
    student = detector_in(model)
    if not _has_amp(next(student.module.parameters()).device):
        return False
    difference = amp_difference(student, torch.float16)
    if difference <= LARGEST_DIFFERENCE:
        return True
    say(
        f"warning: train.amp: mixed precision gives other maps than float32 on this device ({difference:.1%} apart, "
        f"allowed: {LARGEST_DIFFERENCE:.0%}); this training goes on in float32"
    )
    return False


def _has_amp(device: torch.device) -> bool:
    return device.type not in ("cpu", "mps")


@torch.no_grad()
def amp_difference(student: Trainable, dtype: torch.dtype) -> float:
    """Relative difference between mixed precision and float32 of the maps that reach a student's head.

    Returns:
        the largest over the maps; infinite if anything is not finite.
    """
    network = deepcopy(student.module)  # batch norms take infinities into their statistics, whatever their momentum is
    detector = student.with_module(network)
    neck = Needs(detector.spec.taps_of("neck"))
    device, size = next(network.parameters()).device, 4 * detector.spec.size_multiple
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(_IMAGES, detector.spec.input_channels, size, size, generator=generator).to(device)
    maps = []
    network.train()  # in eval mode the signals of fresh weights die out on their way
    for kind in (torch.float32, dtype):
        with torch.autocast(device.type, dtype=kind, enabled=kind is not torch.float32):
            maps.append(run(detector, images, neck).taps)
    plain, mixed = maps
    differences = [(mixed[key].float() - plain[key]).norm() / plain[key].norm() for key in plain]
    largest = torch.stack(differences).max()
    return float(largest) if bool(torch.isfinite(largest)) else float("inf")
