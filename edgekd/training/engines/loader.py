"""The engine's data loader with a position that can be kept and returned to.

The order of the images is drawn from one generator. The position is therefore that generator's state when the loader
began, and how many batches were taken since: returning means drawing the same order again and leaving those out.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import torch

from edgekd.training.engines.replay import Failed, Numbered
from edgekd.training.views import Views


class ResumableLoader:
    """Stands in for the engine's `InfiniteDataLoader`; what is not defined here is that loader's.

    Attributes:
        first_batch: index at which the next pass begins; not 0 only for the pass that a resumed training is in.
        index: of the batch that is handed out next, within its pass.
        numbered: whether the engine has asked for `first_batch` where it counts batches; see `patches.numbered`.
        before_pass: called once per pass, before its first batch.
        before_batch: called before each batch, the moment between two training steps, and behind the last one.
    """

    def __init__(self, loader: Any, views: Views | None = None, epoch: Callable[[], int] = lambda: 0) -> None:
        """Stand in for `loader`.

        Args:
            views: shown again and again; None: as the engine draws.
            epoch: says which one begins or is gone on with.
        """
        self._loader, self._views, self._epoch = loader, views, epoch
        self._began: torch.Tensor | None = None
        self._taken = 0
        self.first_batch = 0
        self.index = 0
        self.numbered = False
        self.before_pass: Callable[[], None] = lambda: None
        self.before_batch: Callable[[], None] = lambda: None
        loader.worker_init_fn = _IgnoreSignals(loader.worker_init_fn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_loader"], name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        """One epoch of batches, or what is left of it."""
        self.index = self.first_batch
        self.before_pass()
        while self.index < len(self):
            self.before_batch()
            if self._loader.iterator is None:
                self._begin()
            batch = next(self._loader.iterator)
            if isinstance(batch, Failed):
                batch.raised()
            self._taken += 1
            self.index += 1
            yield batch
        self.before_batch()
        self.first_batch = 0

    def position(self) -> dict[str, Any]:
        """Where the loader is, to keep."""
        began = self._loader.generator.get_state() if self._loader.iterator is None else self._began
        return {"generator": began, "taken": 0 if self._loader.iterator is None else self._taken, "index": self.index}

    def seek(self, position: dict[str, Any]) -> None:
        """Go to a kept position; the next pass begins there."""
        self._loader.reset()
        self._loader.generator.set_state(position["generator"])
        self._began, self._taken = position["generator"], position["taken"]
        self._open(skip=self._taken, passes=(self._taken - position["index"]) // len(self))

    def _begin(self) -> None:
        self._began, self._taken = self._loader.generator.get_state(), 0
        self._open(skip=0)

    def _open(self, skip: int, passes: int = 0) -> None:
        """Make the iterator, whose workers begin to fetch at once, `skip` batches further on.

        Args:
            passes: whole ones among those batches.
        """
        repeated = self._loader.batch_sampler
        batches = repeated
        if self._views is not None:
            images = len(self._loader.dataset)
            batches = Numbered(repeated, self._views, images, len(self), self._epoch() - passes)
        skipping = _Skipping(batches, skip)
        object.__setattr__(self._loader, "batch_sampler", skipping)  # as the engine sets it
        try:
            self._loader.iterator = self._loader._get_iterator()
        finally:
            object.__setattr__(self._loader, "batch_sampler", repeated)
        skipping.skip()  # not only at the first batch: the engine may reset the loader before


class _Skipping:
    """Batches of indices without the first ones, which are drawn no earlier than the loader's own random seed."""

    def __init__(self, batches: Any, skip: int) -> None:
        self._batches, self._left = iter(batches), skip

    def __iter__(self) -> _Skipping:
        return self

    def __next__(self) -> Any:
        self.skip()
        return next(self._batches)

    def skip(self) -> None:
        """Leave them out now."""
        while self._left:
            self._left -= 1
            next(self._batches)


class _IgnoreSignals:
    """Starts a worker that leaves signals to the main process, which saves before it stops."""

    def __init__(self, init: Callable[[int], None] | None) -> None:
        self._init = init

    def __call__(self, worker: int) -> None:
        """Called in the worker with its number."""
        for kind in (signal.SIGTERM, signal.SIGINT):
            signal.signal(kind, signal.SIG_IGN)
        if self._init is not None:
            self._init(worker)
