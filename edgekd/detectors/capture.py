"""Reads taps: what modules gave at their calls in a pass, kept by forward hooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from edgekd.detectors.contract import Detector
from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import Needs, Tap


def run(detector: Detector, images: Tensor, needs: Needs) -> DetectorOutput:
    """One pass on (B, C, H, W) RGB in 0..1: the taps, and those parts of the head, that are asked for."""
    with captured(detector.module, needs.taps) as maps:
        heads = detector.compute(images, needs.head)
    return detector.assemble(heads, maps, images)


@contextmanager
def captured(module: nn.Module, taps: Sequence[Tap]) -> Iterator[dict[str, Tensor]]:
    """Outputs of the taps by key, of the one pass that runs during the block.

    Hooks last only that long: one that stays would be copied with the module and pickled into checkpoints.
    """
    capture = Capture(module, taps)
    try:
        yield capture.maps
    finally:
        capture.remove()


class Capture:
    """Hooks on a module's taps.

    Attributes:
        maps: key of the tap -> its output, as passes run.
    """

    def __init__(self, module: nn.Module, taps: Sequence[Tap]) -> None:
        self.maps: dict[str, Tensor] = {}
        self._calls: dict[str, int] = {}
        paths: dict[str, list[Tap]] = {}
        for tap in taps:
            paths.setdefault(tap.path, []).append(tap)
        self._handles = [
            module.get_submodule(path).register_forward_hook(
                self._once(here[0]) if len(here) == 1 and not here[0].call else self._counting(path, here)
            )
            for path, here in paths.items()
        ]

    def take(self) -> dict[str, Tensor]:
        """The maps of the pass that has ended; the next one begins."""
        maps = dict(self.maps)
        self.begin()
        return maps

    def begin(self) -> None:
        """Forget what passes left that nobody took."""
        self.maps.clear()
        self._calls.clear()

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def _once(self, tap: Tap) -> Any:
        """For the first call of a module, mostly its only one in a pass."""

        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if tap.key not in self.maps:
                self._keep(tap, output)

        return hook

    def _counting(self, path: str, taps: list[Tap]) -> Any:
        """For a module that runs once per level."""
        wanted = {tap.call: tap for tap in taps}

        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            call = self._calls.get(path, 0)
            self._calls[path] = call + 1
            if call in wanted:
                self._keep(wanted[call], output)

        return hook

    def _keep(self, tap: Tap, output: Tensor) -> None:
        """A copy of what lies inside a block, where an in-place activation may overwrite it."""
        self.maps[tap.key] = output.clone() if tap.role == "named" else output
