"""What is known of a model without measuring: its weights, and the work of one image. Found by looking, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgekd.atomic import read_json, sha256_file, sha256_json, write_json
from edgekd.detectors import families
from edgekd.detectors.contract import Asked
from edgekd.errors import InputError
from edgekd.progress import progress

_COUNTED_PX = (32, 64, 96, 128, 160, 192, 224, 256)  # cheap, and all multiples of the strides in use
_FITTED_PX = 192  # from here on a network with a fixed number of queries has enough points for them


@dataclass(frozen=True)
class Facts:
    """Of a model at one size.

    Attributes:
        parameters: number of weights.
        gflops: of the exported network on one image; a multiplication and an addition are two.
        branches: of its head, by name.
        size_multiple: of its inputs.
    """

    parameters: int
    gflops: float
    branches: tuple[str, ...] = ()
    size_multiple: int = 32


_TOLD = {"parameters", "branches", "size_multiple", "gflops"}


class FactsStore:
    """Facts of models, for one data set's classes and channels, in a file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path, class_names: tuple[str, ...], channels: int) -> None:
        self._path, self._classes, self._channels = path, class_names, channels
        try:
            content = read_json(path) if path.is_file() else {}
            self._known: dict[str, Any] = {key: entry for key, entry in content.items() if entry.keys() >= _TOLD}
        except (ValueError, AttributeError):  # cut or edited: looked into again
            self._known = {}

    def of(self, models: Sequence[str], sizes: Sequence[int], where: str) -> dict[tuple[str, int], Facts]:
        """Facts of each model at each size.

        Args:
            where: of the space, for messages.

        Raises:
            InputError: a model cannot be opened, or a size is no multiple of its strides; one line each.
        """
        new = [model for model in models if self.key(model) not in self._known]
        if new:
            with progress("shortlist: looking into models", len(new)) as advance:
                for model in new:
                    self._known[self.key(model)] = self._look(model, where)
                    write_json(self._path, self._known)
                    advance(1, model)
        problems: list[str] = []
        found: dict[tuple[str, int], Facts] = {}
        for model in models:
            entry = self._known[self.key(model)]
            for size in sizes:
                if size % entry["size_multiple"]:
                    problems.append(_misfit(model, size, entry["size_multiple"], where))
                found[model, size] = _at(entry, size)
        if problems:
            raise InputError(*dict.fromkeys(problems))
        return found

    def key(self, model: str) -> str:
        """Hash of all that decides what a model computes, but for its size."""
        family = families.family(families.meant(model, None) or "")
        about = {
            "model": model, "file": sha256_file(Path(model)) if Path(model).is_file() else None,
            "classes": len(self._classes), "channels": self._channels,
            "versions": {name: version(name) for name in ("torch", *family.packages)},
        }  # fmt: skip
        return sha256_json(about)

    def _look(self, model: str, where: str) -> dict[str, Any]:
        import torch

        torch.manual_seed(0)
        detector = families.open_detector(None, Asked(model, None, self._classes, self._channels, f"{where}.models"))
        spec = detector.spec
        module = detector.export_module(None).eval()
        return {
            "model": model, "parameters": spec.parameters, "branches": list(spec.branches),
            "size_multiple": spec.size_multiple,
            "gflops": _counts(module, spec.input_channels),
        }  # fmt: skip


def _counts(module: Any, channels: int) -> dict[str, float]:
    """By size; those at which a network with more queries than points cannot run are left out."""
    counted: dict[str, float] = {}
    for size in _COUNTED_PX:
        try:
            counted[str(size)] = _count(module, channels, size)
        except RuntimeError:
            if size >= _FITTED_PX:
                raise
    return counted


def _count(module: Any, channels: int, size_px: int) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, channels, size_px, size_px))
    return float(counter.get_total_flops()) / 1e9


def _at(entry: dict[str, Any], size_px: int) -> Facts:
    """As counted; beyond, a polynomial in the pixels: convolutions are linear in them, attention is quadratic."""
    import numpy as np

    counted = {int(size): gflops for size, gflops in entry["gflops"].items()}
    gflops = counted.get(size_px)
    if gflops is None:
        fitted = {size**2 / 1e4: gflops for size, gflops in counted.items() if size >= _FITTED_PX}
        gflops = float(np.polyval(np.polyfit(list(fitted), list(fitted.values()), 2), size_px**2 / 1e4))
    return Facts(entry["parameters"], gflops, tuple(entry["branches"]), entry["size_multiple"])


def _misfit(model: str, size_px: int, multiple: int, where: str) -> str:
    down, up = size_px // multiple * multiple, -(-size_px // multiple) * multiple
    return (
        f"{where}.sizes: {size_px} is no multiple of {multiple}, the largest stride of {model}; use "
        f"{f'{down} or {up}' if down else up}"
    )
