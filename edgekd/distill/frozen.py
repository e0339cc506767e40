"""Parts of the teacher through which the student's gradients pass."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import nn

from edgekd.detectors.spec import Branch, Part


class Frozen:
    """A module that a method calls and that never changes: eval mode, no gradients of its own.

    It is no `nn.Module`, so a method that holds it does not register it: the engine would give it gradients, optimise
    it, copy it and save it. Copies of the method share it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = deepcopy(module).eval().requires_grad_(False)  # a copy: the teacher's own carries hooks of taps

    def __call__(self, *inputs: Any) -> Any:
        """Run it; gradients flow to the inputs."""
        return self._module(*inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a frozen part of the teacher is never pickled")


def no_parts(part: Part, level: int, cut: int, branch: Branch) -> Frozen:
    """For a pair that is known by its specs alone."""
    raise RuntimeError("this pair has no teacher network to take a part of")
