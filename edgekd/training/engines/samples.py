"""The train split as a training will see it, in any order: for whoever wants to know something of every sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgekd import ranks
from edgekd.detectors.outputs import Batch
from edgekd.training.engines import patches
from edgekd.training.engines.batch import batch_of
from edgekd.training.engines.build import make_trainer
from edgekd.training.engines.replay import Failed
from edgekd.training.plan import FitPlan
from edgekd.training.views import View, coded


class TrainSamples:
    """Samples of the views of a plan, made by the very data set, transforms and workers of its training.

    Attributes:
        images: in the split.
        device: of the training.
    """

    def __init__(self, plan: FitPlan, work: Path) -> None:
        """Set the engine up as far as its data.

        Args:
            work: the engine's folder.
        """
        trainer = make_trainer(replace(plan, distillers=(), stored=None, unlabelled=frozenset()), {}, work)
        trainer.unlabelled = plan.unlabelled
        trainer.wrap = _never  # a data set that says what its samples show, as that of a distillation does
        with patches.patched():
            trainer.setup_model()
            strides: Any = trainer.model.stride
            multiple = max(int(strides.max()), 32)
            trainer.args.imgsz = -(-trainer.args.imgsz // multiple) * multiple
            trainer.model.args = trainer.args
            self._loader = trainer.get_dataloader(trainer.data["train"], self._share(plan), -1, "train")
        self._trainer, self._closed = trainer, False
        self.images, self.device = len(self._loader.dataset), trainer.device
        self.size_px, self.channels = trainer.args.imgsz, trainer.data["channels"]
        self.batch = int(self._loader.batch_size)

    def batches(self, groups: Sequence[tuple[View, Sequence[int]]]) -> Iterator[Batch]:
        """One batch for each group of images, all of them in views of one kind; the open ones first.

        Raises:
            EdgekdError: an image cannot be read.
        """
        self._show(closed=groups[0][0].closed)
        data, given = self._loader.dataset, self._loader
        codes = [[coded(view, index, self.images) for index in indices] for view, indices in groups]
        workers = given.num_workers if len(codes) > 1 else 0
        loader = torch.utils.data.DataLoader(
            data, batch_sampler=codes, num_workers=workers, collate_fn=given.collate_fn,
            worker_init_fn=given.worker_init_fn, pin_memory=given.pin_memory, generator=torch.Generator(),
        )  # fmt: skip
        for found in loader:
            if isinstance(found, Failed):
                found.raised()
            yield batch_of(self._trainer._engine.preprocess_batch(found))

    @staticmethod
    def _share(plan: FitPlan) -> int:
        """This process's part of a batch, as the training has it."""
        return max(int(plan.train.get("batch", 16)) // ranks.size(), 1)

    def precision(self) -> AbstractContextManager[Any]:
        """What the training's forward pass runs in, if it uses AMP where it can be used."""
        asked = self._trainer.args.amp
        enabled = asked not in (False, "fp32") and (self.device.type == "cuda" or asked == "bf16")
        dtype = torch.bfloat16 if asked == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype, enabled=enabled)

    def _show(self, *, closed: bool) -> None:
        if closed and not self._closed:
            self._loader.dataset.close_mosaic(hyp=copy(self._trainer.args))
        assert closed or not self._closed, "open views come first"
        self._closed = closed


def _never(*_: Any) -> Any:
    raise AssertionError("nothing is trained")
