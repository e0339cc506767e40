"""The frozen teacher's network as a function, what runs it, and the comparison that every other way than torch passes.

All runtimes compute one function, `TeacherNetwork`, and are compared with it at every new size of image: one that gives
something else is refused, not trained with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from edgekd.detectors.capture import Capture
from edgekd.detectors.contract import Detector
from edgekd.detectors.spec import Head, Needs
from edgekd.errors import EnvironmentFault

RuntimeName = Literal["eager", "compile", "openvino"]
PrecisionName = Literal["fp32", "bf16", "fp16"]
Program = Callable[[Tensor], dict[str, Tensor]]

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Largest relative difference, ||runtime - torch|| / ||torch|| per tensor, by what was computed in.
TOLERANCE: dict[torch.dtype, float] = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 0.1}


class TeacherNetwork(nn.Module):
    """The teacher as a plain function: images (B, C, H, W) to tensors by name, the batch first.

    Names are those of `Detector.compute` for head outputs and keys of taps. The hooks of the taps stay for as long as
    the detector does, so it must be a copy that nobody else uses.
    """

    def __init__(self, detector: Detector, needs: Needs) -> None:
        super().__init__()
        self.module = detector.module
        self._detector, self._parts = detector, needs.head
        self._capture = Capture(detector.module, needs.taps)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Heads, then taps."""
        self._capture.begin()  # passes that run for other needs leave their maps here, too
        heads = self._detector.compute(images, self._parts)
        return {**heads, **self._capture.take()}


class Runtime(ABC):
    """A way to run the network.

    Attributes:
        name: as recipes have it.
        ranks_alike: scores that are all but equal come in torch's order, where a head takes the best of them.
        network: what is run.
        dtype: computed in; None: as the student's step is.
    """

    name: ClassVar[str]
    ranks_alike: ClassVar[bool] = True

    def __init__(self, network: TeacherNetwork, precision: PrecisionName | None) -> None:
        self.network = network
        self.dtype = DTYPES[precision] if precision else None

    @classmethod
    @abstractmethod
    def check(cls, precision: PrecisionName | None, device: torch.device) -> None:
        """Whether this machine can run it.

        Raises:
            InputError: it cannot be on such a device.
            EnvironmentFault: something is missing here.
        """

    @classmethod
    def gives(cls, head: Head) -> bool:
        """Whether outputs of such a head can be had of it; taps always can."""
        return cls.ranks_alike or not head.ranks

    @abstractmethod
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, C, H, W) in 0..1, float32, on the network's device."""


class Comparison:
    """Compares a runtime with torch on the first image of each new size; costs one image."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._seen: set[tuple[int, ...]] = set()

    def __call__(self, images: Tensor, found: dict[str, Tensor]) -> None:
        """Compare.

        Raises:
            EnvironmentFault: the runtime gives something else.
        """
        size = tuple(images.shape[-2:])
        if size in self._seen:
            return
        self._seen.add(size)
        for name, expected in self.runtime.network(images[:1]).items():
            allowed = TOLERANCE[self.runtime.dtype or expected.dtype]
            difference = _difference(found[name][:1].float(), expected.float())
            if not difference <= allowed:  # not a number is no match either
                raise EnvironmentFault(
                    f"teacher.runtime: {self.runtime.name} gives something else than torch at {size[1]}x{size[0]} px: "
                    f"'{name}' differs by {difference:.2%} (allowed: {allowed:.1%}); use eager"
                )


def _difference(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).norm() / expected.norm().clamp_min(1e-6))


def failed(what: str, error: Exception) -> EnvironmentFault:
    """What a runtime's own library could not do."""
    reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
    return EnvironmentFault(f"teacher.runtime: {what} failed ({type(error).__name__}: {reason}); use eager")
