"""What all detectors of torchvision have in common here: a network of torchvision's own, columns of classes, taps."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from edgekd.detectors.spec import Spec
from edgekd.detectors.torchvision import classes
from edgekd.detectors.torchvision.description import describe, taps_at
from edgekd.detectors.torchvision.models import MODELS

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` since Python 3.11


class TorchvisionDetector:
    """A detector whose network is torchvision's own (`module`); the resizing of its input transform is not used."""

    def __init__(self, module: nn.Module, name: str, columns: Sequence[str], spec: Spec | None = None) -> None:
        """See the class.

        Args:
            name: of the model.
            columns: names of all columns of the class logits.
            spec: of a network whose description is known.
        """
        self.module = module
        self.column_names = tuple(columns)
        self.columns = classes.kept(columns)
        self.model = MODELS[name]
        self.spec = spec or describe(module, name, tuple(columns[column] for column in self.columns))

    def with_taps(self, paths: Sequence[str]) -> Self:
        """See `Detector.with_taps`."""
        known = {tap.path for tap in self.spec.taps}
        taps = taps_at(self.module, self.spec.name, [path for path in dict.fromkeys(paths) if path not in known])
        return self._like(self.module, replace(self.spec, taps=self.spec.taps + taps)) if taps else self

    def with_module(self, module: nn.Module) -> Self:
        """See `Detector.with_module`."""
        return self._like(module, self.spec)

    def frozen(self) -> Self:
        """See `Detector.frozen`."""
        return self.with_module(deepcopy(self.module).eval().requires_grad_(False))

    def _like(self, module: nn.Module, spec: Spec) -> Self:
        return type(self)(module, self.spec.name, self.column_names, spec)
