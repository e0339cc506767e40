"""The whole state of a training between two batches, as plain tensors and values, and the way back to it.

Taken and put back at one and the same point of the program (the loader is about to hand out a batch), so that on a CPU
without worker processes the training that goes on is the uninterrupted one, bit for bit.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekd import ranks
from edgekd.atomic import write_bytes
from edgekd.errors import InputError
from edgekd.training.distillation import DistillationModule, unwrapped
from edgekd.training.engines.protocol import EngineData
from edgekd.training.engines.shell import student_of

if TYPE_CHECKING:
    from edgekd.training.engines.trainer import StudentTrainer

State = dict[str, Any]


def passing(trainer: StudentTrainer) -> State:
    """What the engine changes between the last batch of an epoch and the end of its validation."""
    return {"criterion": _criterion_numbers(trainer), "random": _random_states()}


def capture(trainer: StudentTrainer, passing_state: State | None = None) -> State:
    """The state between two batches; to be called on all ranks at once.

    Args:
        passing_state: `passing` of that moment, where the engine has moved on since.
    """
    then = passing_state or passing(trainer)
    model = unwrapped(trainer.model)
    return {
        "epoch": trainer.epoch,
        "loader": trainer.train_loader.position(),
        "model": model.state_dict(),
        "distillation": model.progress() if isinstance(model, DistillationModule) else None,
        "gradients": {name: value.grad for name, value in model.named_parameters() if value.grad is not None},
        "stepped_at": trainer.stepped_at,
        "criterion": then["criterion"],
        "ema": trainer.ema.ema.state_dict(),
        "ema_updates": trainer.ema.updates,
        "fake_quantization": trainer.fake_quantization.state_dict() if trainer.fake_quantization else None,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "best_fitness": _number(trainer.best_fitness),
        "stopper": {key: _number(getattr(trainer.stopper, key)) for key in _STOPPER},
        "losses": {name: _map(torch.Tensor.detach, getattr(trainer, name, None)) for name in _LOSSES},
        "ranks": ranks.gather(_of_rank(trainer, model, then["random"])),
    }


def prepare(trainer: StudentTrainer, state: State, best: torch.Tensor | None, same_place: bool = True) -> None:
    """Before the engine's loop begins: the epoch to begin with, and what was best so far.

    Args:
        best: the best checkpoint's bytes.
        same_place: go on at the very batch; False begins the epoch anew, for a loader that has changed.
    """
    trainer.start_epoch = state["epoch"]
    trainer.scheduler.last_epoch = state["epoch"] - 1
    trainer.best_fitness = state["best_fitness"]
    trainer.stopper.__dict__.update(state["stopper"])
    trainer.train_loader.first_batch = state["loader"]["index"] if same_place else 0
    if best is not None and ranks.is_main():
        write_bytes(trainer.best, best.numpy().tobytes())


def restore(trainer: StudentTrainer, state: State, same_place: bool = True) -> None:
    """Before the first batch: everything else, so that nothing the engine did since can tell.

    Raises:
        InputError: the state is of another model or optimiser.
    """
    model = unwrapped(trainer.model)
    try:
        model.load_state_dict(state["model"])
        trainer.ema.ema.load_state_dict(state["ema"])
        trainer.optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"train: the saved state does not fit this training ({reason}); begin anew") from error
    if isinstance(model, DistillationModule):
        model.go_on_from(state["distillation"])
    trainer.ema.updates = state["ema_updates"]
    trainer.scaler.load_state_dict(state["scaler"])
    _restore_criterion(model, state["criterion"])
    if trainer.fake_quantization:
        trainer.fake_quantization.load_state_dict(state["fake_quantization"], trainer.device)
    if not same_place:
        return
    for name, parameter in model.named_parameters():
        gradient = state["gradients"].get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter.device)
    trainer.set_last_step(state["stepped_at"])
    for name, value in state["losses"].items():
        setattr(trainer, name, _map(lambda tensor: tensor.to(trainer.device), value))
    trainer.train_loader.seek(state["loader"])
    _restore_rank(trainer, model, state["ranks"][ranks.rank()])


def best_checkpoint(trainer: StudentTrainer) -> torch.Tensor | None:
    """The engine's best checkpoint so far, byte for byte (uint8); its last one if none was, or nothing is, measured."""
    path = trainer.best if trainer.validated and trainer.best.exists() else trainer.last
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) if path.exists() else None


def is_finite(trainer: StudentTrainer) -> bool:
    """Whether the weights can be gone on from."""
    tensors = unwrapped(trainer.model).state_dict().values()
    return all(bool(torch.isfinite(value).all()) for value in tensors if value.is_floating_point())


_STOPPER = ("best_fitness", "best_epoch", "possible_stop")
_LOSSES = ("tloss", "loss_items", "loss")


def _of_rank(trainer: StudentTrainer, model: Any, random_states: State) -> State:
    """What differs from rank to rank."""
    buffers = {name: value.cpu() for name, value in model.named_buffers()} if ranks.size() > 1 else {}
    return {"random": random_states, "images": _images_in_memory(trainer), "buffers": buffers}


def _restore_rank(trainer: StudentTrainer, model: Any, state: State) -> None:
    buffers = dict(model.named_buffers())
    for name, value in state["buffers"].items():
        buffers[name].copy_(value)
    _put_images_in_memory(trainer, state["images"])
    _set_random_states(state["random"])


def _criterion_numbers(trainer: StudentTrainer) -> dict[str, Any]:
    """What a loss changes about itself while training: the end-to-end loss shifts its weights each epoch."""
    criterion = getattr(unwrapped(trainer.model), "criterion", None)
    return {key: value for key, value in vars(criterion).items() if type(value) in (int, float)} if criterion else {}


def _restore_criterion(model: Any, numbers: dict[str, Any]) -> None:
    if numbers:
        owner: Any = student_of(model)
        owner.criterion = owner.init_criterion()
        vars(owner.criterion).update(numbers)


def _random_states() -> State:
    kind, keys, *rest = np.random.get_state()  # the engine augments with it
    return {
        "python": random.getstate(),
        "numpy": (str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_states(states: State) -> None:
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def _images_in_memory(trainer: StudentTrainer) -> State:
    """A mosaic is made of images that were loaded of late: which ones, in which order."""
    data: EngineData = trainer.train_loader.dataset
    buffer = list(data.buffer)
    return {"buffer": buffer, "loaded": [index for index in sorted(set(buffer)) if data.ims[index] is not None]}


def _put_images_in_memory(trainer: StudentTrainer, images: State) -> None:
    data: EngineData = trainer.train_loader.dataset
    for index in images["loaded"]:
        data.load_image(index)
    data.buffer[:] = images["buffer"]


def _number(value: Any) -> Any:
    """A plain number: the engine's are numpy's at times, which a file that cannot run code does not hold."""
    return value.item() if hasattr(value, "item") else value


def _map(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """The function of a tensor, or of each tensor in a dictionary; anything else as it is."""
    if isinstance(value, dict):
        return {key: _map(function, part) for key, part in value.items()}
    return function(value) if torch.is_tensor(value) else value
