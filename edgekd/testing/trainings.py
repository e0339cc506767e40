"""Small trainings on the embedded data: stopped and gone on with, and shared out over two processes.

    python -m edgekd.testing.trainings TRAINING.json OUT.pt RANK PORT

is one of two processes, which meet at a port of this machine; `on_two_ranks` starts both.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekd import ranks
from edgekd.data.digits import CLASS_NAMES, generate
from edgekd.detectors import families
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Asked
from edgekd.distill.config import MAIN
from edgekd.distill.contract import distiller_type
from edgekd.errors import Interrupted
from edgekd.training.engines.build import make_trainer
from edgekd.training.engines.shell import student_of
from edgekd.training.fit import fit
from edgekd.training.plan import FitPlan
from edgekd.training.resume import FILE, Resume
from edgekd.training.teacher import AnyTeacher, Teacher

SIZE_PX, IMAGES, BATCH, EPOCHS = 64, 12, 4, 2
_PATIENCE_S = 600  # of two processes on a busy machine


@dataclass(frozen=True)
class Training:
    """What is trained.

    Attributes:
        student, teacher: family and model; no teacher: without methods.
        methods: name -> keys.
        modules: imported first in each process: what registers a family or a method that no entry point names.
    """

    student: tuple[str, str]
    teacher: tuple[str, str] | None = None
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    modules: Sequence[str] = ()

    def plan(self, data_yaml: Path) -> FitPlan:
        """Two epochs of three batches, with mosaics in the first; initial weights are the same at every call."""
        student = families.trainable(_opened(self.student), "test")
        kinds = [(name, distiller_type(name).config_type.model_validate(keys)) for name, keys in self.methods.items()]
        train = {
            "imgsz": SIZE_PX, "epochs": EPOCHS, "batch": BATCH, "nbs": 2 * BATCH, "optimizer": "AdamW", "lr0": 0.001,
            "mosaic": 1.0, "close_mosaic": 1, "warmup_epochs": 1.0, "amp": False, "patience": 0, "device": "cpu",
        }  # fmt: skip
        return FitPlan(
            student=student, initialised=True, data_yaml=data_yaml, train=train,
            head=student.spec.branches[0] if student.spec.branches else None, seed=3, threads=1, distillers=kinds,
        )  # fmt: skip

    def teachers(self) -> dict[str, AnyTeacher]:
        """The one there is, by the name that methods learn from by default."""
        if self.teacher is None:
            return {}
        return {MAIN: Teacher(_opened(self.teacher).frozen(), ClassMap.identity(len(CLASS_NAMES)))}


def images(folder: Path) -> Path:
    """The data.yaml of twelve train images of 64 px."""
    return generate(folder, imgsz=SIZE_PX, train=IMAGES, val=4, test=4, seed=0)


class _Stop:
    """Sends SIGTERM to this process behind a batch, as whoever stops a training does."""

    def __init__(self, batch: int) -> None:
        self._left = batch

    def batch(self, items: Mapping[str, float]) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    def epoch(self, row: Mapping[str, Any]) -> None: ...


def whole(training: Training, data_yaml: Path, folder: Path) -> dict[str, bytes]:
    """Files that the uninterrupted training leaves."""
    return _trained(training.plan(data_yaml), training, folder)


def in_parts(training: Training, data_yaml: Path, folder: Path, stops: Sequence[int]) -> dict[str, bytes]:
    """Files of a training that was stopped behind so many batches, each time it was gone on with, and then ended."""
    for batches in stops:
        try:
            _trained(replace(training.plan(data_yaml), watcher=_Stop(batches)), training, folder)
        except Interrupted:
            assert (folder / FILE).is_file()
        else:
            raise AssertionError(f"the training went on when it was stopped behind batch {batches}")
    return _trained(training.plan(data_yaml), training, folder)


def _trained(plan: FitPlan, training: Training, folder: Path) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    fit(plan, training.teachers(), folder, "student", Resume(folder / FILE, {"test": 1}, 60))
    return {path.name: _timeless(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != FILE}


def _timeless(path: Path) -> bytes:
    """A file's content, but for how long the matching of queries took, which no two trainings agree on."""
    if path.name != "first_steps.json":
        return path.read_bytes()
    return json.dumps(
        {key: value for key, value in json.loads(path.read_bytes()).items() if key != "matching"}
    ).encode()


@dataclass(frozen=True)
class Ended:
    """What one of the processes ended with.

    Attributes:
        batch_size: of this process.
        losses: of each batch.
        before, weights: of the student, by name.
        own: weights and buffers of the methods, by name.
        saved: whether it wrote a checkpoint.
    """

    batch_size: int
    losses: list[float]
    before: dict[str, Tensor]
    weights: dict[str, Tensor]
    own: dict[str, Tensor]
    saved: bool


def on_two_ranks(training: Training, data_yaml: Path, folder: Path) -> tuple[Ended, Ended]:
    """Train in two processes that share the batch out (gloo, on this machine); what each ended with."""
    folder.mkdir(exist_ok=True)
    (folder / "training.json").write_text(json.dumps({**asdict(training), "data": str(data_yaml)}))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "edgekd.testing.trainings", str(folder / "training.json")]
    processes = [
        subprocess.Popen([*command, str(folder / f"{rank}.pt"), str(rank), str(port)], env=environment)
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=_PATIENCE_S) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (Ended(**torch.load(folder / f"{rank}.pt", weights_only=True)) for rank in range(2))
    return first, second


def check_ranks(training: Training, data_yaml: Path, folder: Path) -> None:
    """Both learn, from half of the batch each, and hold the same weights; the first alone writes."""
    both = on_two_ranks(training, data_yaml, folder)
    first, second = both
    assert [one.batch_size for one in both] == [BATCH // 2, BATCH // 2]
    assert [one.saved for one in both] == [True, False]
    assert first.losses != second.losses, "both saw the same images"
    for name, value in first.weights.items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, second.weights[name]), name
    assert set(first.own) == set(second.own)
    for name, value in first.own.items():
        assert torch.equal(value, second.own[name]), name
    moved = [name for name, value in first.weights.items() if not torch.equal(value, first.before[name])]
    assert len(moved) > 0.8 * len(first.weights), "nothing was learnt"


def _opened(named: tuple[str, str]) -> Any:
    torch.manual_seed(1)
    family, model = named
    return families.open_detector(family, Asked(model, None, CLASS_NAMES, 3, "test"))


def _weights(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters() if value.requires_grad}


def _main(told: Path, out: Path, rank: int, port: int) -> None:
    ranks.join(ranks.World(rank, 2, 0, 1), "localhost", port, hosted=False, timeout_s=300)
    torch.set_num_threads(1)
    given = json.loads(told.read_text())
    families.family_names(), distiller_type("pkd")  # the built-in ones first
    for module in given["modules"]:
        import_module(module)
    teacher = tuple(given["teacher"]) if given["teacher"] else None
    training = Training(tuple(given["student"]), teacher, given["methods"])
    trainer = make_trainer(training.plan(Path(given["data"])), training.teachers(), out.with_suffix(""))
    losses: list[float] = []
    before: dict[str, Tensor] = {}
    sizes: list[int] = []

    def began(engine: Any) -> None:
        before.update(_weights(student_of(engine.model)))
        sizes.append(engine.train_loader.batch_size)

    trainer.add_callback("on_train_start", began)
    trainer.add_callback("on_train_batch_end", lambda engine: losses.append(float(engine.loss)))
    trainer.train()
    module = getattr(trainer.model, "module", trainer.model)
    own = getattr(module, "distillers", torch.nn.Module())
    ended = Ended(
        sizes[0], losses, before, _weights(student_of(trainer.model)),
        {name: value.clone() for name, value in own.state_dict().items() if value is not None},
        trainer.last.exists(),
    )  # fmt: skip
    torch.save(vars(ended), out)
    ranks.leave(0)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
