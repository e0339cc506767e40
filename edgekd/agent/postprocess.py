# SPDX-License-Identifier: Apache-2.0
"""From raw outputs to detections, in numpy: threshold, rank, suppress.

The result is that of the usual class-wise greedy NMS over every (box, class) pair above the threshold. What makes it
fast: candidates are taken best first in blocks, so the work ends with the last detection that is kept; inside a block
they are sorted by their left edges, which leaves each with few neighbours that it may overlap enough, and IoU is
computed for the few of these that overlap enough in height, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .protocol import AgentError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Integers = npt.NDArray[np.int64]
    Decoder = Callable[[Dict[str, Floats], int, "Settings"], "Decoded"]

MAX_CANDIDATES = 30000
CLASS_OFFSET_PX = 7680.0
DEFAULT_IOU, DEFAULT_MAX_DET = 0.7, 300
_BLOCK = 512
_PORTION = 4096
_PILE = 32768  # pairs in a block from which taking one detection after the other is quicker
_LOW_BITS = np.uint64(0xFFFFFFFF)
# A pair whose IoU exceeds t overlaps by more than t times either width, and either height. Floats round: some slack.
_SLACK = 0.999


class Settings(NamedTuple):
    """Thresholds: score (exclusive), IoU of the suppression (exclusive), detections kept per image."""

    conf: float
    iou: float
    max_det: int


def settings(conf: float, iou: Optional[float], max_det: Optional[int], nms: Optional[Mapping[str, Any]]) -> Settings:
    """The thresholds in force: as given, or by default; where the graph has an NMS, within what it lets through.

    Args:
        iou, max_det: None for the default.
        nms: the sidecar's: thresholds of an NMS inside the graph, or None.

    Raises:
        AgentError: another IoU than the graph's, which cannot be undone here.
    """
    if nms is None:
        return Settings(conf, DEFAULT_IOU if iou is None else iou, max_det or DEFAULT_MAX_DET)
    if iou is not None and abs(iou - nms["iou"]) > 1e-6:
        raise AgentError(
            "settings",
            f"--iou {iou:g}: the NMS inside the graph uses {nms['iou']:g}; leave --iou out, or export the target again "
            f"with 'options: {{nms: {{iou: {iou:g}}}}}'",
        )
    return Settings(max(conf, nms["conf"]), nms["iou"], min(max_det or nms["max_det"], nms["max_det"]))


class Decoded(NamedTuple):
    """Detections of one image, best first: boxes_px (n, 4) x1 y1 x2 y2, scores (n,), class_ids (n,)."""

    boxes_px: Floats
    scores: Floats
    class_ids: Integers


def decode_dense(boxes_px: Floats, scores: Floats, settings: Settings) -> Decoded:
    """Detections from boxes (N, 4) and scores (N, K) of one image.

    A box counts once per class that scores above the threshold; at most 30,000 pairs are considered. Classes are kept
    apart as the reference does it, by an offset of the coordinates, since that rounds them and so moves some IoUs.
    """
    num_classes = scores.shape[1]
    flat = np.ascontiguousarray(scores, dtype=np.float32).reshape(-1)
    boxes_px = np.asarray(boxes_px, dtype=np.float32)
    kept = np.empty(0, dtype=np.int64)
    kept_edges = np.empty((5, 0), dtype=np.float32)
    for block in _ranked_blocks(flat, settings.conf):
        edges = np.concatenate((kept_edges, _edges(boxes_px, block, num_classes)), axis=1)
        alive = _survivors(edges, len(kept), settings.iou)
        kept = np.concatenate((kept, block[alive]))
        if len(kept) >= settings.max_det:
            break
        kept_edges = np.concatenate((kept_edges, edges[:, edges.shape[1] - len(block) :][:, alive]), axis=1)
    kept = kept[: settings.max_det]
    return Decoded(boxes_px[kept // num_classes], flat[kept], kept % num_classes)


def decode_end2end(rows: Floats, settings: Settings) -> Decoded:
    """Detections from rows (k, 6) x1 y1 x2 y2 score class of one image: filtered by score, in the model's order."""
    rows = np.asarray(rows, dtype=np.float32)
    rows = rows[rows[:, 4] > np.float32(settings.conf)][: settings.max_det]
    return Decoded(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))


def postprocess(outputs: Sequence[Floats], conf: float, iou: float, max_det: int) -> Decoded:
    """Detections of one image from its raw outputs: `[boxes (N, 4), scores (N, K)]` or end-to-end `[rows (k, 6)]`."""
    settings = Settings(conf, iou, max_det)
    if len(outputs) == 2:
        return decode_dense(outputs[0], outputs[1], settings)
    return decode_end2end(outputs[0], settings)


def _ranked_blocks(flat_scores: Floats, conf: float) -> Iterator[Integers]:
    """Indices of the scores above `conf` in blocks, best first; equal scores in the order of their index.

    The best few thousand are parted off before they are sorted: the rest is rarely asked for.
    """
    index = np.flatnonzero(flat_scores > np.float32(conf))
    # The bits of a positive float grow with its value: one integer sort ranks by score, then by index.
    bits = flat_scores[index].view(np.uint32).astype(np.uint64)
    keys = ((_LOW_BITS - bits) << np.uint64(32)) | index.astype(np.uint64)
    left = MAX_CANDIDATES
    while len(keys) and left:
        portion = min(_PORTION, left)
        if len(keys) > portion:
            keys.partition(portion)
        best, keys, left = np.sort(keys[:portion]), keys[portion:], left - portion
        ranked = (best & _LOW_BITS).astype(np.int64)
        for start in range(0, len(ranked), _BLOCK):
            yield ranked[start : start + _BLOCK]


def _edges(boxes_px: Floats, pairs: Integers, num_classes: int) -> Floats:
    """(5, n): x1, y1, x2, y2 and area of each (box, class) pair, every class moved to a place of its own."""
    points, class_ids = np.divmod(pairs, num_classes)
    edges = np.empty((5, len(pairs)), dtype=np.float32)
    np.add(boxes_px[points].T, class_ids.astype(np.float32) * np.float32(CLASS_OFFSET_PX), out=edges[:4])
    np.multiply(edges[2] - edges[0], edges[3] - edges[1], out=edges[4])
    return edges


def _survivors(edges: Floats, kept: int, iou: float) -> npt.NDArray[np.bool_]:
    """Which of the candidates in columns `kept:` of (5, n) edges stay; columns before are kept already; all ranked."""
    order, counts = _neighbours(edges, iou)
    if counts.sum() > _PILE:
        return _survivors_of_pile(edges, kept, iou)
    better, worse = _overlapping(edges, order, counts, iou)
    alive = np.ones(edges.shape[1], dtype=bool)
    while True:
        # A candidate falls if a better one that stands covers it. Each pass settles at least one more rank for good,
        # and in practice all of them after a few passes; the fixed point is the greedy result.
        standing = np.ones_like(alive)
        standing[worse[alive[better]]] = False
        if np.array_equal(standing, alive):
            return alive[kept:]
        alive = standing


def _survivors_of_pile(edges: Floats, kept: int, iou: float) -> npt.NDArray[np.bool_]:
    """The same where most candidates lie on few spots: those that stay are few, and strike out the others in turn."""
    new = edges[:, kept:]
    alive: npt.NDArray[np.bool_] = ~np.any(_covers(edges[:, :kept, None], new[:, None, :], iou), axis=0)
    for column in range(new.shape[1]):
        if alive[column]:
            alive[column + 1 :] &= ~_covers(new[:, column, None], new[:, column + 1 :], iou)
    return alive


def _neighbours(edges: Floats, iou: float) -> Tuple[Integers, Integers]:
    """Columns by left edge, and how many of those that follow each begin so near that it may overlap them enough."""
    order = np.argsort(edges[0])
    left, right = edges[0][order].astype(np.float64), edges[2][order]
    reach = left + (right - left) * (1 - _SLACK * iou)
    counts = np.searchsorted(left, reach, side="right") - np.arange(1, len(order) + 1)
    return order, np.maximum(counts, 0)


def _overlapping(edges: Floats, order: Integers, counts: Integers, iou: float) -> Tuple[Integers, Integers]:
    """Column pairs (better, worse) with an IoU above `iou`, among the neighbours."""
    places = np.arange(len(order))
    ends = np.cumsum(counts)
    following = np.arange(counts.sum()) + np.repeat(places + 1 - (ends - counts), counts)
    one, other = np.repeat(order, counts), order[following]
    y1, y2 = edges[1], edges[3]
    height = np.minimum(y2[one], y2[other]) - np.maximum(y1[one], y1[other])
    near = np.flatnonzero(height > (y2 - y1)[one] * np.float32(_SLACK * iou))
    one, other = one[near], other[near]
    covered = _covers(edges[:, one], edges[:, other], iou)
    one, other = one[covered], other[covered]
    return np.minimum(one, other), np.maximum(one, other)


def _covers(some: Floats, others: Floats, iou: float) -> npt.NDArray[np.bool_]:
    """Whether the IoU of edges (5, ...) with others, one by one as arrays are broadcast, is above `iou`."""
    width = np.minimum(some[2], others[2]) - np.maximum(some[0], others[0])
    height = np.minimum(some[3], others[3]) - np.maximum(some[1], others[1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        above: npt.NDArray[np.bool_] = shared / (some[4] + others[4] - shared) > _float_below(iou)
    return above


def _float_below(value: float) -> np.float32:
    """The largest float32 that is not above `value`: comparing float32 with it equals comparing with `value` itself."""
    near: np.float32 = np.float32(value)
    if float(near) > value:
        near = np.nextafter(near, np.float32(-np.inf), dtype=np.float32)
    return near


def split_columns(columns: Floats) -> Tuple[Floats, Floats]:
    """Boxes (..., N, 4) x1 y1 x2 y2 and scores (..., N, K) of (..., 4 + K, N) x y w h and scores."""
    centres, halves = columns[..., :2, :], columns[..., 2:4, :] * np.float32(0.5)
    boxes_px = np.concatenate((centres - halves, centres + halves), axis=-2)
    return np.swapaxes(boxes_px, -1, -2), np.swapaxes(columns[..., 4:, :], -1, -2)


def own_layout(kind: str, outputs: Mapping[str, Floats]) -> Dict[str, Floats]:
    """Outputs by name in edgekd's own layout: `boxes` and `scores`, or `detections`, of whole batches."""
    if kind == "ultralytics":
        boxes_px, scores = split_columns(outputs["output0"])
        return {"boxes": boxes_px, "scores": scores}
    return {"detections": outputs["output0"]} if kind == "ultralytics_end2end" else dict(outputs)


_DECODERS: Dict[str, Tuple[Tuple[str, ...], Decoder]] = {
    "dense": (
        ("boxes", "scores"),
        lambda outputs, image, settings: decode_dense(outputs["boxes"][image], outputs["scores"][image], settings),
    ),
    "end2end": (
        ("detections",),
        lambda outputs, image, settings: decode_end2end(outputs["detections"][image], settings),
    ),
    "ultralytics": (
        ("output0",),
        lambda outputs, image, settings: decode_dense(*split_columns(outputs["output0"][image]), settings),
    ),
    "ultralytics_end2end": (
        ("output0",),
        lambda outputs, image, settings: decode_end2end(outputs["output0"][image], settings),
    ),
}


def decoder(kind: str, output_names: List[str]) -> Decoder:
    """The function (outputs by name, image of the batch, settings) -> Decoded for the sidecar's `decode` kind.

    Raises:
        AgentError: the kind is unknown, or the model lacks one of its outputs.
    """
    if kind not in _DECODERS:
        known = ", ".join(sorted(_DECODERS))
        raise AgentError("artifact", f"edgekd.json: decode: unknown kind '{kind}' (known: {known})")
    needed, function = _DECODERS[kind]
    missing = [name for name in needed if name not in output_names]
    if missing:
        raise AgentError(
            "artifact",
            f"decode '{kind}' needs outputs {', '.join(needed)}; the model has {', '.join(output_names) or 'none'}",
        )
    return function
