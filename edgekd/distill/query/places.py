"""Random boxes that are a function of the images: what is known of an image can be stored, whatever the step.

Numbers come from a hash of the image's own pixels, on their device, without waiting for it: augmented images differ, so
the boxes are drawn anew in every step, and the same image gets the same boxes on every rank and machine.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_PIXELS = 1024  # of an image, that make its number


def uniform(images: Tensor, count: int, numbers: int, salt: int = 0) -> Tensor:
    """(B, count, numbers) in 0..1, uniform, of images (B, C, H, W) in 0..1."""
    place = torch.arange(count * numbers, device=images.device)
    drawn = _hash(_numbers_of(images)[:, None] ^ _hash(place + 1 + salt * 0x10001)[None])
    return (drawn.double() / (_MASK + 1)).float().reshape(len(images), count, numbers)


def random_boxes(images: Tensor, count: int) -> Tensor:
    """(B, count, 4): centre and size, each uniform in 0..1 of the image."""
    return uniform(images, count, 4)


def _numbers_of(images: Tensor) -> Tensor:
    """(B,) int64 below 2^32, one for each image."""
    flat = images.detach().flatten(1)
    step = max(1, flat.shape[1] // _PIXELS)
    levels = (flat[:, ::step].float() * 65535).long()
    place = torch.arange(levels.shape[1], device=images.device)
    return _hash((levels * (_hash(place) | 1)).sum(1) & _MASK)


def _hash(value: Tensor) -> Tensor:
    """Mixes the low 32 bits of int64: multiplications and shifts, as in integer hash functions of that width."""
    value = value & _MASK
    for shift, factor in ((16, 0x7FEB352D), (15, 0x46CA68B5)):
        value = ((value ^ (value >> shift)) * factor) & _MASK
    return value ^ (value >> 16)
