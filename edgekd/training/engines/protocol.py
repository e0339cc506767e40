"""What edgekd uses of the engine's trainer: all of it, so that a new release of the engine is held against one list.

`StudentTrainer` (trainer.py) overrides the methods below; `patches.require_used` checks at the start of each training
that the engine still calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Average(Protocol):
    """The engine's moving average of a model's weights.

    Attributes:
        ema: the averaged copy, in eval mode.
        updates: how often it was updated.
        decay: share of the average that stays in an update, by the number of updates.
        update: takes in the weights of what the engine trains.
    """

    ema: nn.Module
    updates: int
    decay: Callable[[int], float]
    update: Callable[[nn.Module], None]


class EngineData(Protocol):
    """The engine's data set of one split, as far as edgekd knows it.

    Attributes:
        labels: of each image its file `im_file`, boxes `bboxes` (N, 4) and classes `cls` (N, 1).
        ims: images that are in memory, (H, W, C) uint8; None of the others.
        buffer: numbers of the images that mosaics are made of.
        transforms: what makes a sample of an image; `build_transforms` makes it anew where the mosaic ends.
        load_image: an image by its number, with its sizes before and after it was made smaller.
        get_image_and_label: the same with its labels, before any transform.
    """

    labels: list[dict[str, Any]]
    ims: list[Any]
    buffer: list[int]
    transforms: Any
    build_transforms: Callable[..., Any]
    load_image: Callable[..., Any]
    get_image_and_label: Callable[[int], dict[str, Any]]
    __getitems__: Callable[[Any], list[Any]]  # what torch's loader asks first for a batch

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def close_mosaic(self, hyp: Any) -> None:
        """No mosaic or mixup from now on."""
        ...


class EngineValidator(Protocol):
    """The engine's validator, as far as edgekd knows it.

    Attributes:
        dataloader: of this process's share of the val split.
        device: where `loss` is.
        loss: by name, summed over the batches of `dataloader`.
        training: whether it validates a model that is being trained, and sums its losses.
        gather_stats: called once after the last batch; on rank 0 then lies what all ranks have found.
    """

    dataloader: Any
    device: torch.device
    loss: dict[str, Tensor]
    training: bool
    gather_stats: Callable[[], None]


class EngineTrainer(Protocol):
    """The engine's `BaseTrainer`, as far as edgekd knows it.

    Attributes:
        args: the engine's arguments, by name.
        device: where the model is.
        data: the data set's YAML, read; `train` and `val` say where the images are.
        model: what is trained, within the wrappers of torch.compile and DDP.
        ema: average of the model, for validation and checkpoints; None before the set-up.
        optimizer, scheduler, scaler: torch's; the engine sets `scheduler.last_epoch` by hand.
        lf: factor of the learning rate by epoch; `scheduler` and the engine's warm-up follow it.
        amp: whether steps run in mixed precision.
        accumulate: batches per step of the optimiser.
        train_loader, test_loader: of the two splits.
        validator: for `test_loader`.
        world_size: processes that the engine believes to train together; 0 and 1 are one.
        epoch, epochs, start_epoch: the present one from 0, how many, and the one to begin with.
        loss, loss_items, tloss: of the last batch, its parts by name, and their means over the epoch so far.
        metrics: of the last validation.
        stop, stopper: whether the training ends after this epoch, and who decides that.
        fitness, best_fitness: of the last validation, and of the best epoch so far.
        save_dir, wdir, best, last: the engine's folder, that of its checkpoints, and the two checkpoints.
    """

    args: Any
    device: torch.device
    data: dict[str, Any]
    model: nn.Module
    ema: Average
    optimizer: torch.optim.Optimizer
    scheduler: Any
    scaler: torch.amp.GradScaler
    lf: Callable[[int], float]
    amp: bool
    accumulate: int
    train_loader: Any
    test_loader: Any
    validator: EngineValidator
    world_size: int
    epoch: int
    epochs: int
    start_epoch: int
    loss: Tensor | None
    loss_items: dict[str, Tensor] | None
    tloss: dict[str, Tensor] | None
    metrics: dict[str, float]
    stop: bool
    stopper: Any
    fitness: Any
    best_fitness: Any
    save_dir: Path
    wdir: Path
    best: Path
    last: Path

    def __init__(self, *, overrides: dict[str, Any]) -> None:
        """Read the data set, choose the device."""
        ...

    def train(self) -> None:
        """Set up, and train all epochs."""
        ...

    def add_callback(self, event: str, callback: Callable[[Any], None]) -> None:
        """Have a function called with the trainer at an event."""
        ...

    def setup_model(self) -> Any:
        """Make `model`; returns a checkpoint to resume from."""
        ...

    def set_model_attributes(self) -> None:
        """Tell the model classes and arguments; it is on its device."""
        ...

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of the loader on the device, images in 0..1."""
        ...

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """A loader of the split `mode`."""
        ...

    def get_validator(self) -> EngineValidator:
        """A validator of `test_loader`."""
        ...

    def optimizer_step(self) -> None:
        """Step, forget gradients, update the average."""
        ...

    def validate(self) -> tuple[dict[str, float], float]:
        """Metrics and fitness of the average."""
        ...

    def save_model(self) -> bool:
        """Write `last`, and `best` where this epoch is; whether that was done."""
        ...

    def final_eval(self) -> None:
        """Validate the best checkpoint, and strip both of what only a resume needs."""
        ...

    def _setup_train(self) -> None: ...

    def _build_train_pipeline(self) -> None: ...

    def build_optimizer(self, *given: Any, **named: Any) -> torch.optim.Optimizer:
        """The optimiser of a model's weights."""
        ...

    def _setup_scheduler(self) -> None: ...

    def _model_train(self) -> None: ...

    def _handle_nan_recovery(self, epoch: int) -> bool: ...
