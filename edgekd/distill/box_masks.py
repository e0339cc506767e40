"""Ground-truth boxes painted on feature levels, for methods that treat objects and background apart.

Pure functions of a `Batch` and of a level's (H, W). Pixels become cells by the ratio of map to image on each axis, so
maps of images whose size is no multiple of the stride are right, too. What of a box lies outside the map is left out,
and a box always keeps at least one cell. A batch without any box gives masks of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.distill.adapters import fp32_island

CELLS_PER_BOX = 14  # FPN's rule: the level whose stride is 1 / 14 to 1 / 28 of the box (56 to 112 px at stride 4)


def box_mask(batch: Batch, size: tuple[int, int], weight: Tensor | None = None, *, last: bool = False) -> Tensor:
    """Where a level's cells lie in a box: those from floor(start) up to floor(end), (B, H, W) float.

    Args:
        size: (H, W) of the level.
        weight: (M,), what a box is painted with, the most where they overlap, and 0 or False for none; None: 1.
        last: whether the cell in which a box ends belongs to it.
    """
    cells = boxes_in_cells(batch, size)
    painted = _paint(cells[:, :2].floor(), cells[:, 2:].floor() + last, size).to(batch.boxes_px.dtype)
    return _most(painted if weight is None else painted * weight[:, None, None], batch)


@fp32_island
def pooled(feature: Tensor, batch: Batch) -> Tensor:
    """Mean of a map (B, C, H, W) over each box, (M, C): its cells are those of `box_mask` with the last one."""
    size = (feature.shape[2], feature.shape[3])
    cells = boxes_in_cells(batch, size)
    down, across = _spans(cells[:, :2].floor(), cells[:, 2:].floor() + 1, size)
    rows, columns = (span.to(feature.dtype) / span.sum(1, keepdim=True) for span in (down, across))
    filled = batch.rows >= 0  # (B, most boxes)
    rows, columns = (torch.cat([span, span.new_zeros(1, span.shape[1])])[batch.rows] for span in (rows, columns))
    means = torch.einsum("bnch,bnh->bnc", torch.einsum("bchw,bnw->bnch", feature, columns), rows)
    order = torch.argsort(batch.rows[filled])
    return means[filled][order]


def scale_mask(batch: Batch, size: tuple[int, int]) -> Tensor:
    """FGD's foreground: 1 / (cells of the box) inside each box, the smallest box where they overlap; (B, H, W).

    A box covers the cells from floor(start) to ceil(end), both included.
    """
    cells = boxes_in_cells(batch, size)
    low, high = cells[:, :2].floor(), cells[:, 2:].ceil() + 1
    share = 1 / (high - low).prod(1)
    return _most(_paint(low, high, size) * share[:, None, None], batch)


def has_labels(batch: Batch) -> Tensor:
    """1 for images whose objects are marked, else 0, (B, 1, 1): elsewhere nothing is known to be background."""
    return batch.view.labelled[:, None, None].to(batch.boxes_px.dtype)


def background_mask(foreground: Tensor) -> Tensor:
    """1 / (cells of an image's background) where `foreground` (B, H, W) is zero; zeros where an image has none."""
    outside = (foreground == 0).to(foreground.dtype)
    return outside / outside.sum((1, 2), keepdim=True).clamp_min(1)


def anchor_overlaps(
    batch: Batch, size: tuple[int, int], stride: int, scale: float = 8.0, ratios: Sequence[float] = (0.5, 1.0, 2.0)
) -> Tensor:
    """IoU of every box with anchors at the centre of every cell, (M, H, W, ratios).

    Args:
        stride: pixels per cell.
        scale: side of a square anchor, in strides; all have its area.
        ratios: height over width.
    """
    roots = batch.boxes_px.new_tensor(ratios).sqrt()
    half = torch.stack([1 / roots, roots], 1) * (scale * stride / 2)  # (ratios, 2)
    pixels = _pixels_per_cell(batch, size)
    x, y = ((_indices(count, batch) + 0.5) * step for count, step in zip(reversed(size), pixels, strict=True))
    boxes = batch.boxes_px[:, None, None, :]  # (M, 1, 1, 4)
    wide = _overlap(boxes[..., 0], boxes[..., 2], x[None, :, None] - half[:, 0], x[None, :, None] + half[:, 0])
    high = _overlap(boxes[..., 1], boxes[..., 3], y[None, :, None] - half[:, 1], y[None, :, None] + half[:, 1])
    common = wide[:, None] * high[:, :, None]  # (M, H, W, ratios)
    areas = (batch.boxes_px[:, 2:] - batch.boxes_px[:, :2]).prod(1)[:, None, None, None] + 4 * half.prod(1)
    return common / (areas - common)


def any_box(hits: Tensor, batch: Batch) -> Tensor:
    """From what holds for each box, (M, H, W) bool, to what holds for any box of an image: (B, H, W) float."""
    return _most(hits.to(batch.boxes_px.dtype), batch)


def level_of_boxes(batch: Batch, strides: Sequence[int]) -> Tensor:
    """Index of the level that each box belongs to by its size, (M,): FPN's rule, as DeFeat has it.

    Boxes too small or too large for all levels belong to the finest or coarsest one.

    Args:
        strides: of the levels, finest first.
    """
    side = (batch.boxes_px[:, 2:] - batch.boxes_px[:, :2] + 1).clamp_min(1).prod(1).sqrt()
    wanted = (side / CELLS_PER_BOX + 1e-6).log2().floor()  # log2 of the stride
    known = torch.tensor(strides, dtype=wanted.dtype, device=wanted.device).log2()
    return (wanted[:, None] >= known).sum(1).sub(1).clamp_min(0)


def boxes_in_cells(batch: Batch, size: tuple[int, int]) -> Tensor:
    """The boxes in units of a level's cells, (M, 4) x1 y1 x2 y2."""
    across, down = _pixels_per_cell(batch, size)
    return batch.boxes_px / batch.boxes_px.new_tensor([across, down, across, down])


def _pixels_per_cell(batch: Batch, size: tuple[int, int]) -> tuple[float, float]:
    """Across and down."""
    height, width = batch.images.shape[-2:]
    return width / size[1], height / size[0]


def _indices(count: int, batch: Batch) -> Tensor:
    return torch.arange(count, dtype=batch.boxes_px.dtype, device=batch.boxes_px.device)


def _paint(low: Tensor, high: Tensor, size: tuple[int, int]) -> Tensor:
    """Cells of each box, (M, H, W) bool; see `_spans`."""
    down, across = _spans(low, high, size)
    return down[:, :, None] & across[:, None, :]


def _spans(low: Tensor, high: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Rows (M, H) and columns (M, W) of each box, bool, at least one of either inside the map.

    Args:
        low: (M, 2), x and y of the first cell.
        high: the one behind the last.
    """
    limit = low.new_tensor([size[1], size[0]])
    first = low.clamp_min(0).minimum(limit - 1)
    behind = torch.maximum(high.minimum(limit), first + 1)
    x, y = (torch.arange(count, dtype=low.dtype, device=low.device) for count in reversed(size))
    across = (x >= first[:, :1]) & (x < behind[:, :1])
    down = (y >= first[:, 1:]) & (y < behind[:, 1:])
    return down, across


def _overlap(low: Tensor, high: Tensor, other_low: Tensor, other_high: Tensor) -> Tensor:
    return (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp_min(0)


def _most(values: Tensor, batch: Batch) -> Tensor:
    """The highest of an image's boxes, from (M, H, W) to (B, H, W); zeros in images without any."""
    if not batch.rows.shape[1]:
        return values.new_zeros(batch.size, *values.shape[1:])
    none = values.new_zeros(1, *values.shape[1:])  # row -1: where an image has fewer boxes
    return torch.cat([values, none])[batch.rows].amax(1)
