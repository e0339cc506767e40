"""Keeps the state of a training on the disk, so that the same command goes on after any end.

One file, `resume.pt`, replaced as a whole: after every epoch, every so many minutes, and before a stop by signal. It is
read as tensors and plain values only.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgekd import ranks
from edgekd.atomic import write_bytes
from edgekd.errors import InputError, Interrupted
from edgekd.progress import say
from edgekd.training.differing import differences, in_words
from edgekd.training.engines import snapshot
from edgekd.training.signals import StopRequest

if TYPE_CHECKING:
    from edgekd.training.engines.trainer import StudentTrainer

SCHEMA = "edgekd.resume/2"
FILE = "resume.pt"
# Where these differ, the state does not fit the new training, whatever the user allows.
_FIXED = ("student", "architecture", "initial", "distill", "train.optimizer", "train.freeze", "data.class_names",
          "data.channels")  # fmt: skip
# Where these differ, the place in the epoch means another thing: the epoch is begun anew.
_PLACE = ("train.batch", "train.cache", "train.workers", "data", "seed", "world_size")


@dataclass
class Resume:
    """The state of one training.

    Attributes:
        path: of the file.
        identity: everything that decides what comes out: recipe part, data, code, versions, world size.
        minutes: save this often within an epoch.
        allow_changed: go on from a state of another identity where that is possible.
        stop: asked for by a signal.
        log: what the training has to say of itself so far (rows per epoch ...), kept with the state.
        seconds, saving_seconds: spent before this process; of these on saving.
        done: the last epoch is over; nothing is left to train.
    """

    path: Path
    identity: Mapping[str, Any]
    minutes: float = 15
    allow_changed: bool = False
    stop: StopRequest = field(default_factory=StopRequest)
    log: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    saving_seconds: float = 0.0
    done: bool = False
    best: torch.Tensor | None = None
    _state: dict[str, Any] | None = None
    _same_place: bool = True
    _passing: dict[str, Any] | None = None
    _started: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)

    def load(self) -> None:
        """Read the file, if there is one.

        Raises:
            InputError: damaged, or the state of another recipe, code version or world size.
        """
        if not self.path.is_file():
            return
        content = _read(self.path)
        self._same_place = self._check(content)
        self.log, self.done = content["log"], content["done"]
        self.seconds, self.saving_seconds = content["seconds"], content["saving_seconds"]
        self.best, self._state = content["best"], content["state"]
        if not self.done:
            say(f"going on {_place(content)}")

    def attach(self, trainer: StudentTrainer) -> None:
        """Once the engine has set everything up and before its loop: take over the loader's pauses."""
        loader = trainer.train_loader
        loader.before_pass = lambda: self._before_pass(trainer)
        loader.before_batch = lambda: self._before_batch(trainer)
        trainer.add_callback("on_val_batch_end", lambda _: self._while_validating(trainer))
        trainer.add_callback("on_fit_epoch_end", self._epoch_end)
        if self._state is not None:
            snapshot.prepare(trainer, self._state, self.best, self._same_place)

    def elapsed(self) -> float:
        """Seconds of training, those of earlier processes included."""
        return self.seconds + time.monotonic() - self._started

    def remove(self) -> None:
        """The stage is done and written down: the state is of no use any more."""
        self.path.unlink(missing_ok=True)

    def _before_pass(self, trainer: StudentTrainer) -> None:
        self._passing = None
        if self._state is not None:
            snapshot.restore(trainer, self._state, self._same_place)
            self._state = None
        elif trainer.epoch > 0:
            self._save(trainer)

    def _before_batch(self, trainer: StudentTrainer) -> None:
        """Also called once behind the last batch, where the epoch's validation is still to come."""
        if trainer.train_loader.index == len(trainer.train_loader):
            self._passing = snapshot.passing(trainer)
        stop, due = self.stop.signal is not None, time.monotonic() - self._saved > 60 * self.minutes
        if ranks.agree(stop or due):
            self._save(trainer)
            if ranks.agree(stop):
                self._interrupt(trainer)

    def _while_validating(self, trainer: StudentTrainer) -> None:
        """A long validation must not outlast the grace of a preempted server. Ranks validate at their own pace."""
        if self.stop.signal is not None and not self.done and ranks.size() == 1:
            self._save(trainer)
            self._interrupt(trainer)

    def _epoch_end(self, trainer: StudentTrainer) -> None:
        if not trainer.stop or self.done or not ranks.is_main():
            return
        self.done, self.best = True, snapshot.best_checkpoint(trainer)
        self._write(trainer, None)

    def _interrupt(self, trainer: StudentTrainer) -> None:
        ranks.wait()  # until rank 0 has written: the first rank to end ends all
        where = f"epoch {trainer.epoch + 1}, batch {trainer.train_loader.index} of {len(trainer.train_loader)}"
        raise Interrupted(f"interrupted by {self.stop.signal or 'another rank'} in {where}; the training state is "
                          f"saved, the same command goes on from it")  # fmt: skip

    def _save(self, trainer: StudentTrainer) -> None:
        """Write the state, unless nothing could go on from it: the last good one stays."""
        if ranks.agree(not snapshot.is_finite(trainer)):
            return
        began = time.monotonic()
        state = snapshot.capture(trainer, self._passing)
        if ranks.is_main():
            self._write(trainer, state)
        self._saved = time.monotonic()
        self.saving_seconds += self._saved - began

    def _write(self, trainer: StudentTrainer, state: dict[str, Any] | None) -> None:
        content = {
            "schema": SCHEMA, "identity": json.dumps(self.identity), "epoch": trainer.epoch + 1, "done": self.done,
            "batch": trainer.train_loader.index, "seconds": self.elapsed(),
            "saving_seconds": self.saving_seconds, "log": self.log,
            "best": self.best if self.done else snapshot.best_checkpoint(trainer), "state": state,
        }  # fmt: skip
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_bytes(self.path, buffer.getvalue())

    def _check(self, content: Mapping[str, Any]) -> bool:
        """Whether the state is of this very training, and the place in the epoch means the same.

        Raises:
            InputError: it is of another one, and may not or cannot be gone on from.
        """
        changed = differences(json.loads(content["identity"]), self.identity)
        fixed = [key for key in changed if _is_below(key, _FIXED)]
        if changed and (fixed or not self.allow_changed):
            what = in_words({key: changed[key] for key in fixed or changed})
            remedy = "" if fixed else "--allow-changed goes on from it, "
            raise InputError(
                f"{self.path}: the saved training, {_place(content)}, differs in {what}; {remedy}"
                f"--fresh begins the whole run anew, deleting the file this training alone"
            )
        return not any(_is_below(key, _PLACE) for key in changed)


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        sound = content["schema"] == SCHEMA
    except Exception as error:  # torch raises many kinds for one fact
        raise InputError(f"{path}: the saved training cannot be read; delete the file to begin it anew") from error
    if not sound:
        raise InputError(
            f"{path}: saved by another version of edgekd ({content['schema']}); delete the file to begin it anew"
        )
    return content


def _place(content: Mapping[str, Any]) -> str:
    return f"from epoch {content['epoch']}, batch {content['batch']}"


def _is_below(key: str, roots: tuple[str, ...]) -> bool:
    return any(key == root or key.startswith(f"{root}.") for root in roots)
