"""Fake quantisation: in a training forward, convolutions compute with what 8 bits leave of their weights and inputs.

    weights      s_o = max |w_o| / 127                      w^ = s * clip(round(w / s), -127, 127)
    inputs       s = (high - low) / 255, z = round(-low / s)     x^ = s * (clip(round(x / s) + z, 0, 255) - z)
    symmetric    s = max(-low, high) / 127                  x^ = s * clip(round(x / s), -128, 127)

as QuantizeLinear and DequantizeLinear of ONNX define it, weights per output channel, inputs per tensor, ranges widened
to hold 0. Gradients pass straight through; those of inputs outside the range are 0. Per-channel scales need no folding
of batch norms: the norm behind a convolution multiplies each channel of w by a factor f_o, and (f w)^ = f w^, since the
scale grows by |f_o| and the grid is symmetric.

Ranges follow the inputs of the first batches and are then frozen. Weights stay float: what is saved is the student.
Batch norms keep their statistics: with those of small batches, which the artifact will not have, the student would
learn to undo the difference, which is larger than that of quantisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgekd import ranks
from edgekd.detectors.contract import Trainable

if TYPE_CHECKING:
    from edgekd.training.engines.trainer import StudentTrainer

_SMALLEST = 1e-12  # scale of a channel or a map that is all zeros


@dataclass(frozen=True)
class Grid:
    """What is quantised, and how ranges are found.

    Attributes:
        symmetric: inputs have no zero point, as TensorRT wants it.
        float_predictions: the head's last convolutions, which give scores and boxes, stay float.
        range_epochs: ranges follow the batches for so long (a part of an epoch, too), then they are frozen.
        range_decay: of their moving average; the n-th batch weighs at least 1 / n.
        frozen_norms: batch norms normalise as in inference, with the statistics that the student came with.
    """

    symmetric: bool = False
    float_predictions: bool = False
    range_epochs: float = 1.0
    range_decay: float = 0.99
    frozen_norms: bool = True


def fake_quantized_weight(weight: Tensor) -> Tensor:
    """What int8 leaves of a weight (O, ...), in its dtype: per output channel, symmetric, straight-through."""
    scale = weight.detach().float().flatten(1).abs().amax(1) / 127
    zeros = torch.zeros_like(scale, dtype=torch.int32)
    scale = scale.clamp_min(_SMALLEST)
    return torch.fake_quantize_per_channel_affine(weight.float(), scale, zeros, 0, -127, 127).to(weight.dtype)


def fake_quantized_input(value: Tensor, span: Tensor, symmetric: bool) -> Tensor:
    """What 8 bits leave of a tensor, in its dtype: per tensor, clipped to its range, straight-through within.

    Args:
        span: (2,) float32, lowest and highest value.
        symmetric: int8 without zero point, else uint8 with one.
    """
    low, high = span[0].clamp(max=0), span[1].clamp(min=0)
    scale = (torch.maximum(-low, high) / 127 if symmetric else (high - low) / 255).clamp_min(_SMALLEST)
    zero = torch.zeros_like(scale) if symmetric else torch.round(-low / scale).clamp(0, 255)
    levels = (-128, 127) if symmetric else (0, 255)
    return torch.fake_quantize_per_tensor_affine(value.float(), scale, zero.int(), *levels).to(value.dtype)


@dataclass
class FakeQuantization:
    """Switched on, a student's convolutions quantise; switched off, no trace is left on it.

    Attributes:
        spans: (2,) float32 by path, the average of the lowest and of the highest input over the batches so far.
        counts: these batches, by path.
        batches: whose ranges were looked at.
    """

    grid: Grid = field(default_factory=Grid)
    spans: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    batches: int = 0
    _seen: dict[str, Tensor] = field(default_factory=dict)
    _on: list[nn.Module] = field(default_factory=list)
    _frozen: list[nn.Module] = field(default_factory=list)
    _observing: bool = False

    def on(self, student: Trainable, observing: bool = False) -> None:
        """From now on its convolutions quantise.

        Args:
            observing: look at the ranges of this batch, for `end_batch`.
        """
        self.off()
        self._observing = observing
        for path, part in student.quantisable(self.grid.float_predictions).items():
            part._conv_forward = partial(self._run, path, part._conv_forward)  # type: ignore[method-assign]
            self._on.append(part)
        if self.grid.frozen_norms:
            self._frozen = [part for part in student.module.modules() if isinstance(part, _BatchNorm) and part.training]
        for norm in self._frozen:
            norm.training = False

    def off(self) -> None:
        """Convolutions and batch norms are what they were."""
        for part in self._on:
            del part._conv_forward  # the instance's attribute; its class has the original
        for norm in self._frozen:
            norm.training = True
        self._on, self._frozen = [], []

    @contextmanager
    def of(self, student: Trainable) -> Iterator[None]:
        """On during the block, with the ranges as they are."""
        self.on(student)
        try:
            yield
        finally:
            self.off()

    def end_batch(self) -> None:
        """Off, and what was seen goes into the ranges: equally on all ranks.

        Not while the batch runs: a pass that is done again for want of memory quantises as the first did.
        """
        self.off()
        if not self._observing:
            return
        paths, self._observing = list(self._seen), False
        found = _over_ranks(torch.stack([self._seen.pop(path) for path in paths])) if paths else torch.zeros(0, 2)
        for path, span in zip(paths, found, strict=True):
            count = self.counts.get(path, 0) + 1
            share = max(1 - self.grid.range_decay, 1 / count)
            self.spans[path] = torch.lerp(self.spans.get(path, span), span, share)
            self.counts[path] = count
        self.batches += 1

    def state_dict(self) -> dict[str, Any]:
        """What a training that goes on needs."""
        return {"spans": dict(self.spans), "counts": dict(self.counts), "batches": self.batches}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from there."""
        self.spans = {path: span.to(device) for path, span in state["spans"].items()}
        self.counts, self.batches = dict(state["counts"]), state["batches"]

    def _run(self, path: str, forward: Any, value: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        span = self.spans.get(path)
        if self._observing or span is None:
            now = torch.stack(torch.aminmax(value.detach())).float()
            if self._observing:
                self._seen[path] = _union(self._seen[path], now) if path in self._seen else now
            span = now if span is None else span  # the first batch has nothing but itself
        quantized = fake_quantized_input(value, span, self.grid.symmetric)
        result: Tensor = forward(quantized, fake_quantized_weight(weight), bias)
        return result


def install(trainer: StudentTrainer, grid: Grid) -> None:
    """Switch it on for the batches that the engine's trainer trains; the trainer's validation takes it from there."""
    part = trainer.fake_quantization = FakeQuantization(grid)

    def start(_: Any) -> None:
        limit = grid.range_epochs * len(trainer.train_loader)
        part.on(trainer.student, observing=part.batches < limit)

    trainer.add_callback("on_train_batch_start", start)
    trainer.add_callback("on_train_batch_end", lambda _: part.end_batch())


def _union(one: Tensor, other: Tensor) -> Tensor:
    """Of two ranges: a convolution may run several times in one pass."""
    return torch.stack([torch.minimum(one[0], other[0]), torch.maximum(one[1], other[1])])


def _over_ranks(spans: Tensor) -> Tensor:
    """Ranges (n, 2) that hold those of all ranks."""
    if ranks.size() == 1:
        return spans
    signs = spans.new_tensor([-1.0, 1.0])
    widest = spans * signs
    dist.all_reduce(widest, op=dist.ReduceOp.MAX)
    return widest * signs
