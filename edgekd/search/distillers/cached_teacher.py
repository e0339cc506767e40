"""The teacher runs once: trials of one seed see the same images, so what it said of them is kept in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import Needs, Spec
from edgekd.distill.contract import Pair, distiller_type
from edgekd.progress import say
from edgekd.search.distillers.candidates import METHOD, config_of
from edgekd.search.distillers.space import Space
from edgekd.stages.models import RunDetectors
from edgekd.training.teacher import AnyTeacher

MOST_BYTES = 2 * 1024**3  # beyond which the teacher runs anew


@dataclass
class CachedTeacher:
    """A teacher that is asked once for the same images, for all that any candidate reads.

    Attributes:
        needs: of all candidates together.
        kept_bytes: that are held.
    """

    teacher: AnyTeacher
    needs: Needs
    most_bytes: int = MOST_BYTES
    kept_bytes: int = 0
    _kept: dict[bytes, DetectorOutput] = field(default_factory=dict, repr=False)
    _told: bool = False

    def pair(self, student: Spec) -> Pair:
        """See `AnyTeacher.pair`."""
        return self.teacher.pair(student)

    def to(self, device: torch.device) -> CachedTeacher:
        """See `AnyTeacher.to`."""
        self.teacher.to(device)
        return self

    def assert_frozen(self) -> None:
        """See `AnyTeacher.assert_frozen`."""
        self.teacher.assert_frozen()

    def forward(self, images: Tensor, needs: Needs) -> DetectorOutput:
        """See `AnyTeacher.forward`; more than `needs` is there."""
        assert needs | self.needs == self.needs, "a candidate reads what no kind of its space reads"
        key = hashlib.blake2b(images.float().cpu().numpy().tobytes(), digest_size=16).digest()
        found = self._kept.get(key)
        if found is None:
            found = self.teacher.forward(images, self.needs)
            size = _bytes_of(found) + images.numel() * images.element_size()  # which decoding may hold, too
            if self.kept_bytes + size <= self.most_bytes:
                self._kept[key] = found
                self.kept_bytes += size
            elif not self._told:
                self._told = True
                kept = f"{self.most_bytes / 1024**3:.3g} GiB of what the teacher says are kept"
                say(f"note: {kept}; it is asked again for the rest")
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> CachedTeacher:
        return self

    def __reduce__(self) -> str:
        raise TypeError("the teacher is never pickled")


def needs_of(space: Space, pair: RunDetectors) -> Needs:
    """What any candidate reads of the teacher."""
    kind_of = distiller_type(METHOD)
    return Needs.merged(kind_of(config_of(kind, {}), pair.of_methods()).wiring.teacher for kind in space.kinds)


def _bytes_of(output: DetectorOutput) -> int:
    """Of what is held; boxes that are decoded later count as if they were."""
    tensors = list(output.taps.values())
    for one in output.dense.values():
        tensors += [
            tensor for tensor in (one.logits, one.box_logits, one.points_px, one.point_strides) if tensor is not None
        ]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
