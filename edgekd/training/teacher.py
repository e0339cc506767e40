"""The teacher: frozen, outside every module tree, so that no optimiser, EMA, checkpoint or DDP bucket ever sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgekd.detectors.contract import ClassMap, Detector, DetectorOutput, Spec


class Teacher:
    """Holds a frozen detector. Deep copies and pickles of anything that refers to it leave it where it is.

    Attributes:
        detector: in eval mode, without gradients.
        class_map: from the teacher's classes to the data set's.
    """

    def __init__(self, detector: Detector, class_names: tuple[str, ...]) -> None:
        self.detector = detector
        self.class_map = ClassMap.by_name(detector.spec.class_names, class_names)
        self.detector.module.eval().requires_grad_(False)
        self._layout = torch.contiguous_format

    @property
    def spec(self) -> Spec:
        """The teacher's own spec."""
        return self.detector.spec

    def to(self, device: torch.device) -> Teacher:
        """Move to the student's device.

        On a CPU its maps are laid out channels last inside, which makes its convolutions about a fifth faster from
        batches of 16 or two threads up, and is never slower. What it hands out is laid out as the student's maps are.
        """
        self._layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        module: Any = self.detector.module
        module.to(device, memory_format=self._layout)
        return self

    @torch.no_grad()  # not inference_mode: inference tensors cannot be saved for the student's backward
    def forward(self, images: Tensor, taps: tuple[str, ...], needs: frozenset[str]) -> DetectorOutput:
        """Outputs with class logits in the data set's order."""
        output = self.detector.forward(images.contiguous(memory_format=self._layout), taps, needs)
        if self._layout is torch.channels_last:
            output = replace(output, taps={path: value.contiguous() for path, value in output.taps.items()})
        same = self.class_map.is_identity and len(self.class_map.index) == len(self.spec.class_names)
        return output if same or "class_logits" not in needs else self.class_map.apply(output)

    def assert_frozen(self) -> None:
        """Rule: eval mode and no gradient, whatever the engine did.

        Raises:
            AssertionError: it is not so.
        """
        module = self.detector.module
        assert not any(part.training for part in module.modules()), "the teacher left eval mode"
        assert not any(parameter.requires_grad for parameter in module.parameters()), "the teacher has gradients"

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def __reduce__(self) -> str:
        raise TypeError("the teacher is never pickled")
