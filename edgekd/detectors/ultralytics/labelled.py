"""The engine's loss on some images of a batch, those with labels, where all of them went through the network.

The engine takes an image without boxes for one without objects. Here the network sees every image, so that methods can
teach it on all; predictions and ground truth of the others are left out before the loss, which is therefore that of the
labelled images alone, with the same numbers of images and boxes to divide by.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch


def loss_of(module: Any, batch: Batch, kept: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What `module.loss` gives for the images in `kept`, after a pass of all.

    Args:
        kept: (n,) int64, places of the labelled images in the batch; none: the loss is zero, and so is every gradient.
    """
    assert batch.engine is not None, "the engine's loss wants the engine's batch"
    chosen = kept if len(kept) else kept.new_zeros(1)  # the loss of any image has the names of its parts
    rows = torch.isin(batch.image_index, kept)
    if type(module.model[-1]).__name__ == "RTDETRDecoder":
        predictions = _queries(module.predict(batch.images, batch=_for_denoising(batch, rows)), chosen)
    else:
        predictions = _images(module(batch.images), chosen)
    place = torch.full((batch.size,), -1, device=chosen.device)
    place[chosen] = torch.arange(len(chosen), device=chosen.device)
    loss, items = module.loss(
        {
            "img": batch.images[chosen],
            "cls": batch.engine["cls"][rows],
            "bboxes": batch.engine["bboxes"][rows],
            "batch_idx": place[batch.image_index[rows]].to(batch.engine["batch_idx"].dtype),
        },
        predictions,
    )
    if len(kept):
        return loss, items
    return loss * 0, {name: value * 0 for name, value in items.items()}


def _for_denoising(batch: Batch, rows: Tensor) -> dict[str, Any]:
    """What RT-DETR makes its denoising queries of: the ground truth of the labelled images."""
    assert batch.engine is not None
    index = batch.image_index[rows]
    return {
        "cls": batch.class_ids[rows],
        "bboxes": batch.engine["bboxes"][rows],
        "batch_idx": index,
        "gt_groups": torch.bincount(index, minlength=batch.size).tolist(),
    }


def _images(raw: Any, kept: Tensor) -> Any:
    """The kept images of whatever a dense head returned: tensors with the batch first, in containers."""
    if isinstance(raw, Tensor):
        return raw[kept]
    if isinstance(raw, dict):
        return {name: _images(value, kept) for name, value in raw.items()}
    if isinstance(raw, (list, tuple)):
        return type(raw)(_images(value, kept) for value in raw)
    return raw


def _queries(raw: Any, kept: Tensor) -> tuple[Any, ...]:
    """The kept images of what RT-DETR returned: decoder layers (D, B, Q, ...), encoder (B, Q, ...), denoising."""
    boxes, scores, encoder_boxes, encoder_scores, denoising = raw
    if denoising is not None:
        per_image = {name: [denoising[name][image] for image in kept.tolist()] for name in ("dn_pos_idx", "dn_gt_idx")}
        denoising = {**denoising, **per_image}
    return boxes[:, kept], scores[:, kept], encoder_boxes[kept], encoder_scores[kept], denoising
