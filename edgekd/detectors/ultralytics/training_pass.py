"""A training pass of an Ultralytics network: the engine's own forward and loss, with its tensors and decisions read.

The engine's loss keeps to itself whom its assigner made positive, and decides by the student's own predictions. The
assigner is a module, so a hook reads its result, and another one lets a teacher's predictions decide in its place; the
engine's code runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from edgekd.detectors.capture import captured
from edgekd.detectors.outputs import Assignment, Batch, DetectorOutput, Guidance, TrainingPass
from edgekd.detectors.spec import Needs
from edgekd.detectors.ultralytics import labelled, queries

Read: TypeAlias = Callable[[Any, Mapping[str, Tensor], Tensor], DetectorOutput]


def training_pass(module: Any, read: Read, batch: Batch, needs: Needs, guidance: Guidance) -> TrainingPass:
    """Forward and loss of `module`, in training mode.

    Images without labels are no part of the loss.

    Args:
        read: brings what the head returned into the common form.
    """
    assert batch.engine is not None, "the engine's loss wants the engine's batch"
    raw: list[Any] = []
    results: dict[str, Any] = {}
    kept = None if batch.view.all_labelled else batch.view.labelled.nonzero().flatten()
    with ExitStack() as stack:
        maps = stack.enter_context(captured(module, needs.taps))
        keep = module.model[-1].register_forward_hook(lambda _module, _inputs, output: raw.append(output))
        stack.callback(keep.remove)
        if "assignment" in needs.parts or guidance.assign_by:
            stack.enter_context(_watched(module, _of_images(guidance, kept), results))
        loss, items = module.loss(batch.engine) if kept is None else labelled.loss_of(module, batch, kept)
    output = read(raw[0], maps, batch.images)
    dense = {
        branch: replace(predictions, assigned=_assignment(results[branch], batch, kept) if branch in results else None)
        for branch, predictions in output.dense.items()
    }
    return TrainingPass(loss, items, replace(output, dense=dense), {**maps, **_tensors(raw[0])})


def query_pass(module: Any, batch: Batch, needs: Needs) -> TrainingPass:
    """The same of RT-DETR, whose loss finds positives by matching and takes no guidance."""
    assert batch.engine is not None, "the engine's loss wants the engine's batch"
    head, raw = module.model[-1], []
    kept = None if batch.view.all_labelled else batch.view.labelled.nonzero().flatten()
    with ExitStack() as stack:
        maps = stack.enter_context(captured(module, needs.taps))
        seen = stack.enter_context(queries.watched(head, needs.parts))
        keep = head.register_forward_hook(lambda _module, _inputs, output: raw.append(output))
        stack.callback(keep.remove)
        loss, items = module.loss(batch.engine) if kept is None else labelled.loss_of(module, batch, kept)
    heads = queries.of_training(head, raw[0], seen, needs.parts)
    found = queries.predictions(head, heads, batch.images)
    anchors = {**maps, **_tensors(raw[0]), **({"memory": seen[0][2]} if seen else {})}
    return TrainingPass(loss, items, DetectorOutput(dict(maps), {}, found), anchors)


@contextmanager
def _watched(module: Any, guidance: Guidance, results: dict[str, Any]) -> Iterator[None]:
    """During the block, what each branch's assigner returns goes to `results`, and guidance takes its part."""
    with ExitStack() as stack:
        for branch, assigner in _assigners(module).items():
            hook = assigner.register_forward_hook(_keeper(branch, results))
            stack.callback(hook.remove)
            if branch in guidance.assign_by:
                hook = assigner.register_forward_pre_hook(_substitute(*guidance.assign_by[branch]))
                stack.callback(hook.remove)
        yield


def _keeper(branch: str, results: dict[str, Any]) -> Any:
    return lambda _module, _inputs, result: results.__setitem__(branch, result)


def _substitute(scores: Tensor, boxes_px: Tensor) -> Any:
    """The teacher's predictions in place of the student's, in the number formats that the assigner is given."""

    def hook(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        own_scores, own_boxes, *others = inputs
        return (scores.to(own_scores.dtype), boxes_px.to(own_boxes.dtype), *others)

    return hook


def _assigners(module: Any) -> dict[str, Any]:
    """Branch -> the assigner of its loss; none where positives are found by other means (RT-DETR)."""
    if getattr(module, "criterion", None) is None:
        module.criterion = module.init_criterion()  # as the engine does before its first loss
    losses = {"one2many": getattr(module.criterion, "one2many", module.criterion)}
    if hasattr(module.criterion, "one2one"):
        losses["one2one"] = module.criterion.one2one
    return {branch: loss.assigner for branch, loss in losses.items() if hasattr(loss, "assigner")}


def _of_images(guidance: Guidance, kept: Tensor | None) -> Guidance:
    """Guidance for these images of the batch; None: all."""
    if kept is None:
        return guidance
    chosen = kept if len(kept) else kept.new_zeros(1)  # as `labelled.loss_of` has it
    return Guidance({name: (scores[chosen], boxes[chosen]) for name, (scores, boxes) in guidance.assign_by.items()})


def _assignment(result: tuple[Tensor, ...], batch: Batch, kept: Tensor | None = None) -> Assignment:
    """The assigner counts an image's boxes from 0; methods want rows of the batch.

    Args:
        kept: images that the assigner saw; the others have no foreground. None: all.
    """
    _, _, class_targets, foreground, of_image = result
    if kept is not None:
        class_targets, foreground, of_image = (
            value.new_zeros(batch.size, *value.shape[1:]).index_copy(0, kept, value[: len(kept)])
            for value in (class_targets, foreground, of_image)
        )
    foreground = foreground.bool()
    if not batch.rows.shape[1]:
        return Assignment(foreground, torch.full_like(of_image, -1, dtype=torch.int64), class_targets)
    rows = batch.rows.gather(1, of_image.long().clamp_max(batch.rows.shape[1] - 1))
    return Assignment(foreground, rows.masked_fill(~foreground, -1), class_targets)


def _tensors(raw: Any, name: str = "head") -> dict[str, Tensor]:
    """The tensors that the head returned, by name: both the student's own loss and the terms come from these."""
    if isinstance(raw, Tensor):
        return {name: raw} if raw.requires_grad else {}
    parts = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, (tuple, list)) else ()
    return {key: value for part, child in parts for key, value in _tensors(child, f"{name}.{part}").items()}
