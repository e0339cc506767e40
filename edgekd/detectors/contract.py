"""What edgekd asks of a detector, of any family, as teacher and as student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput, Guidance, TrainingPass
from edgekd.detectors.spec import Branch, Needs, Part, Spec


class Detector(Protocol):
    """Any teacher or student of any family. `edgekd.detectors.capture.run` makes a pass of one.

    `module` is the family's own network: what is trained, saved and exported, without a wrapper.
    """

    spec: Spec
    module: nn.Module

    def with_taps(self, paths: Sequence[str]) -> Detector:
        """The same detector, in whose spec the modules at these paths are taps, too (role `named`).

        Paths that do not exist, and modules whose output is not (B, C, H, W), are left out: level matching names them.
        """
        ...

    def with_module(self, module: nn.Module) -> Detector:
        """The same detector around another network of this architecture."""
        ...

    def frozen(self) -> Detector:
        """A copy for use as a teacher: eval mode, no gradients."""
        ...

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """Parts of the head as tensors by name, the batch first; it can be traced and compiled.

        Every layer is called as a module, so that hooks see what a tap asks for.
        """
        ...

    def assemble(self, heads: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """The common form of what `compute` returned for these images and of the taps' maps."""
        ...

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """The last layers of a dense head's tower: from the (B, C, H, W) behind its first `cut` layers to its output.

        Raises:
            InputError: the head has no such tower, or is not that deep.
        """
        ...

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """A plain module from images to (boxes xyxy px (B, N, 4), scores (B, N, K)), or (B, k, 6) if end-to-end."""
        ...


class Trainable(Detector, Protocol):
    """A detector that can also be trained: its own loss, and what that loss decided."""

    def training_pass(self, batch: Batch, needs: Needs, guidance: Guidance) -> TrainingPass:
        """Forward and loss on a batch, in training mode; what methods read comes from the same pass."""
        ...

    def with_module(self, module: nn.Module) -> Trainable:
        """See `Detector.with_module`."""
        ...

    def loss_scale(self, batch_size: int) -> float:
        """What the family multiplies its mean losses with (v8-type: the batch size; RT-DETR: 1)."""
        ...
