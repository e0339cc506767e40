"""Boxes that a positional query asks about: every object's, jittered, and background around the objects.

Equation 3 of UniKD. What is drawn depends on the image and its boxes alone, never on what was drawn before: knowledge
that was stored equals knowledge that is made again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.distill.boxes import iou

TRIES = 16  # jitters of an object that are drawn, and rounds of background
_GRID_PX = 16  # boxes are the same if they agree to a sixteenth of a pixel


@dataclass(frozen=True)
class Probes:
    """Boxes to ask about.

    Attributes:
        boxes_px: (B, N, 4), x1 y1 x2 y2, within the image.
        rows: (B, N) int64, the row of the batch's ground truth that a box was jittered from; -1: background.
    """

    boxes_px: Tensor
    rows: Tensor

    @property
    def positive(self) -> Tensor:
        """(B, N) bool."""
        return self.rows >= 0


def seeds_of(batch: Batch, seed: int = 0) -> list[int]:
    """A seed for each image: of its place in the split and of its boxes, which augmentation has moved."""
    boxes = (batch.boxes_px.detach() * _GRID_PX).round().to("cpu", torch.int64)
    images, places = batch.image_index.cpu(), batch.view.image_ids.cpu()
    seeds = []
    for image, place in enumerate(places.tolist()):
        text = f"{seed},{place},{boxes[images == image].tolist()}"
        seeds.append(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))
    return seeds


def draw_probes(
    batch: Batch, count: int, seeds: list[int], jitter_iou: float = 0.6, background_iou: float = 0.4
) -> Probes:
    """Probes of a batch, the objects' first; drawn on the CPU, and so alike on every device.

    Of an image with more objects than `count`, some are left out by chance. Where a box that overlaps so much, or so
    little, is not found in 16 tries, the object's own box counts, or a box that overlaps more.

    Args:
        count: N.
        seeds: per image; see `seeds_of`.
        jitter_iou: the least IoU of a jittered box with its object.
        background_iou: what the IoU of background with any object stays below.
    """
    height, width = batch.images.shape[-2:]
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    boxes, images = batch.boxes_px.detach().float().cpu(), batch.image_index.cpu()
    found, rows = [], []
    for image, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        own = (images == image).nonzero().flatten()
        if len(own) > count:
            own = own[torch.randperm(len(own), generator=generator)[:count].sort().values]
        missing = count - len(own)
        near = jittered(boxes[own], limit, jitter_iou, generator)
        far = background(boxes[images == image], limit, missing, background_iou, generator)
        found.append(torch.cat([near, far]))
        rows.append(torch.cat([own, own.new_full((missing,), -1)]))
    device = batch.images.device
    return Probes(torch.stack(found).to(device), torch.stack(rows).to(device))


def jittered(boxes_px: Tensor, limit: Tensor, least_iou: float, generator: torch.Generator) -> Tensor:
    """(M, 4) of (M, 4): each edge moved by up to 1 - `least_iou` of the side, the first draw that overlaps enough."""
    sides = (boxes_px[:, 2:] - boxes_px[:, :2]).repeat(1, 2)
    shifts = (2 * torch.rand(len(boxes_px), TRIES, 4, generator=generator) - 1) * (1 - least_iou)
    drawn = torch.minimum((boxes_px[:, None] + shifts * sides[:, None]).clamp_min(0), limit)
    fits = iou(drawn, boxes_px[:, None]) > least_iou
    first = fits.int().argmax(1)
    chosen = drawn[torch.arange(len(drawn)), first]
    return torch.where(fits.any(1)[:, None], chosen, boxes_px)


def background(boxes_px: Tensor, limit: Tensor, count: int, most_iou: float, generator: torch.Generator) -> Tensor:
    """(count, 4): boxes around objects (M, 4), half to twice their size, of less overlap with any; in order of drawing.

    Of an image without objects: anywhere, with sides of a sixteenth of the image up to all of it.
    """
    drawn = TRIES * count
    if len(boxes_px):
        which = torch.randint(len(boxes_px), (drawn,), generator=generator)
        sides = (boxes_px[:, 2:] - boxes_px[:, :2]).clamp_min(2)[which]
        size = sides * 2 ** (2 * torch.rand(drawn, 2, generator=generator) - 1)
        shift = (2 * torch.rand(drawn, 2, generator=generator) - 1) * (sides + size)  # from on top of it to beside it
        centre = ((boxes_px[:, :2] + boxes_px[:, 2:]) / 2)[which] + shift
    else:
        size = limit[:2] * 2 ** (-4 * torch.rand(drawn, 2, generator=generator))
        centre = limit[:2] * torch.rand(drawn, 2, generator=generator)
    boxes = torch.minimum(torch.cat([centre - size / 2, centre + size / 2], 1).clamp_min(0), limit)
    fits = (boxes[:, 2:] - boxes[:, :2]).amin(1) >= 2
    if len(boxes_px):
        overlap = iou(boxes[:, None], boxes_px).amax(1)
        return boxes[torch.argsort((overlap >= most_iou).int() + 2 * (~fits).int(), stable=True)[:count]]
    return boxes[torch.argsort((~fits).int(), stable=True)[:count]]
