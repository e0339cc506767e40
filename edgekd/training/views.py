"""Which view of an image an epoch shows, where views are drawn once and shown again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

_NAME = re.compile(r"(open|closed)-(0|[1-9][0-9]*)")


class View(NamedTuple):
    """One way in which the augmentation shows every image.

    Attributes:
        number: from 0.
        closed: of the last epochs, in which the engine mixes no images any more (`train.close_mosaic`).
    """

    number: int
    closed: bool = False

    @property
    def name(self) -> str:
        """For a folder."""
        return f"{'closed' if self.closed else 'open'}-{self.number}"

    @classmethod
    def named(cls, text: str) -> View | None:
        """The one of this name; None of a text that is none's."""
        found = _NAME.fullmatch(text)
        return None if found is None else cls(int(found[2]), found[1] == "closed")

    def seed(self, of: int, index: int) -> int:
        """Of everything that is drawn for one sample: 63 bits.

        Args:
            of: seed of the views.
            index: place of the image in the split.
        """
        digest = hashlib.sha256(f"edgekd view {of},{self.number},{int(self.closed)},{index}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class Views:
    """The views of a training: a sample is a function of (seed, image, view), and epochs cycle through the views.

    Attributes:
        count: of each kind.
        seed: that they are drawn with; not the training's, so that trainings of several seeds see the same ones.
        epochs: of the training.
        closing: last epochs that show closed views; 0: none, or closing changes nothing.
    """

    count: int
    seed: int
    epochs: int
    closing: int = 0

    def of_epoch(self, epoch: int) -> View:
        """What an epoch shows, from 0."""
        opened = max(self.epochs - self.closing, 0)
        return View(epoch % self.count) if epoch < opened else View((epoch - opened) % self.count, closed=True)

    def all(self) -> tuple[View, ...]:
        """Those that are shown at all, the open ones first."""
        shown: Iterable[View] = (self.of_epoch(epoch) for epoch in range(self.epochs))
        return tuple(sorted(set(shown), key=lambda view: (view.closed, view.number)))


def coded(view: View, index: int, images: int) -> int:
    """Image and view in one number, as samplers and loaders hand numbers on."""
    return (2 * view.number + view.closed) * images + index


def decoded(code: int, images: int) -> tuple[View, int]:
    """View and image of such a number."""
    kind, index = divmod(code, images)
    number, closed = divmod(kind, 2)
    return View(number, bool(closed)), index
