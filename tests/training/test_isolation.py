"""The teacher is only a teacher: nothing that trains, averages, copies, sends or keeps weights ever has its own."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from edgekd.distill.frozen import Frozen
from edgekd.training.distillation import DistillationModule
from edgekd.training.engines.build import make_trainer
from edgekd.training.fit import fit
from edgekd.training.teacher import Teacher
from tests.training.helpers import SAME_CLASSES, detector, methods, plan

# Maps with adapters, head outputs, parts of the teacher that gradients pass: everything a distiller may hold on to.
METHODS = methods(fitnet={}, cwd={}, logit={}, ld={}, crosskd={})
EVENTS = (
    "on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_train_batch_end", "on_train_epoch_end",
    "on_val_start", "on_val_end", "on_fit_epoch_end", "on_train_end",
)  # fmt: skip


def with_batch_norms() -> Teacher:
    """A teacher whose batch norms are not folded into its convolutions, each with statistics of its own."""
    built = detector("yolo11n")
    built.module = copy.deepcopy(built.module)  # networks of the engine share one activation, mode and all
    built.head = built.module.model[-1]
    for name, value in built.module.named_buffers():
        if name.endswith("running_mean"):
            value.add_(0.1 * torch.randn_like(value))
    return Teacher(built, SAME_CLASSES)


def tensors_of(content: Any) -> Iterator[Tensor]:
    """Every tensor in nested containers, modules and engine checkpoints (kept as bytes) included."""
    if isinstance(content, nn.Module):
        for part in content.modules():
            yield from tensors_of({name: value for name, value in vars(part).items() if name != "_modules"})
    elif isinstance(content, Tensor):
        yield content
        if content.dtype == torch.uint8 and content.ndim == 1 and content[:2].tolist() == [80, 75]:
            yield from tensors_of(torch.load(io.BytesIO(content.numpy().tobytes()), weights_only=False))
    elif isinstance(content, dict):
        for value in content.values():
            yield from tensors_of(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from tensors_of(value)


def places(tensors: Any) -> set[int]:
    return {tensor.data_ptr() for tensor in tensors if tensor.numel()}


def telling(module: nn.Module) -> dict[str, Tensor]:
    """Tensors that are the module's own: neither constants that every network has nor single numbers."""
    state = module.state_dict().items()
    return {name: value for name, value in state if value.numel() > 8 and value.std() > 0 and ".dfl." not in name}


def holds(content: Any, module: nn.Module) -> list[str]:
    """Names of the module's tensors whose values are somewhere in `content`, in whatever precision."""
    known: dict[tuple[int, ...], list[Tensor]] = {}
    for tensor in tensors_of(content):
        known.setdefault(tuple(tensor.shape), []).append(tensor.flatten()[:16].float())
    return [
        name
        for name, value in telling(module).items()
        if any(
            torch.allclose(other, value.flatten()[:16], rtol=0.01, atol=1e-3)
            for other in known.get(tuple(value.shape), ())
        )
    ]


class Kept(Frozen):
    """A frozen part that remembers what it was."""

    made: ClassVar[list[Kept]] = []

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.module = self._module
        self.before = {name: value.clone() for name, value in self.module.state_dict().items()}
        self.made.append(self)


@dataclass
class Watched:
    """One epoch of training, looked at from inside."""

    trainer: Any
    teacher: Teacher
    before: dict[str, Tensor]
    folder: Path
    parts: list[Kept] = field(default_factory=list)
    modes: list[bool] = field(default_factory=list)

    @property
    def module(self) -> DistillationModule:
        module = self.trainer.model
        assert isinstance(module, DistillationModule)
        return module

    @property
    def secret(self) -> nn.Module:
        module = self.teacher.detector.module
        assert isinstance(module, nn.Module)
        return module

    @property
    def hidden(self) -> set[int]:
        """Where the teacher's own tensors are in memory, and those of its parts that a method calls."""
        held = (self.secret, *(part.module for part in self.parts))
        return places(value for module in held for value in (*module.parameters(), *module.buffers()))


@pytest.fixture(scope="module")
def watched(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    holder = with_batch_norms()
    before = {name: value.clone() for name, value in holder.detector.module.state_dict().items()}
    seen: list[Watched] = []

    def made(*given: Any) -> Any:
        trainer = make_trainer(*given)
        seen.append(Watched(trainer, holder, before, folder, Kept.made))
        for event in EVENTS:
            trainer.add_callback(event, note)
        trainer.add_callback("on_train_epoch_start", keep)
        return trainer

    def note(_engine: Any) -> None:
        seen[0].modes.append(any(part.training for part in seen[0].secret.modules()))

    def keep(engine: Any) -> None:
        """What the first epoch left on the disk; the end of the training strips or deletes it."""
        if engine.epoch:
            shutil.copytree(engine.wdir, folder / "kept")
            engine.train_loader.before_batch = lambda: shutil.copy(folder / "resume.pt", folder / "kept")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgekd.training.fit.make_trainer", made)
        patch.setattr("edgekd.distill.contract.Frozen", Kept)
        fit(plan(tiny_digits, distillers=METHODS, epochs=2), {"teacher": holder}, folder, "student")
    return seen[0]


def test_it_is_in_eval_mode_throughout(watched: Watched) -> None:
    assert len(watched.modes) > 20
    assert not any(watched.modes)


def test_its_batch_norms_and_weights_are_as_before(watched: Watched) -> None:
    norms = [part for part in watched.secret.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) > 50
    after = watched.secret.state_dict()
    assert [name for name, value in watched.before.items() if not torch.equal(value, after[name])] == []
    moved = watched.module.student.state_dict()
    assert any(int(value) == 6 for name, value in moved.items() if name.endswith("num_batches_tracked")), "of 6 batches"


def test_it_has_no_gradients(watched: Watched) -> None:
    assert all(value.grad is None and not value.requires_grad for value in watched.secret.parameters())


def test_parts_that_a_method_calls_never_change(watched: Watched) -> None:
    """The last layers of its head, of both kinds of predictions at each level; gradients went through them."""
    assert len(watched.parts) == 6
    for part in watched.parts:
        after = part.module.state_dict()
        assert after and [name for name, value in part.before.items() if not torch.equal(value, after[name])] == []
        assert not any(one.training for one in part.module.modules())
        assert all(value.grad is None and not value.requires_grad for value in part.module.parameters())
    adapters = [value for name, value in watched.module.distillers.named_parameters() if name.startswith("4.")]
    assert watched.trainer.optimizer.state[adapters[0]], "what lies before them was trained"


def test_the_optimiser_has_student_and_adapters_only(watched: Watched) -> None:
    held = [value for group in watched.trainer.optimizer.param_groups for value in group["params"]]
    trained = [value for value in watched.module.parameters() if value.requires_grad]
    assert {id(value) for value in trained} <= {id(value) for value in held}
    assert {id(value) for value in held} == {id(value) for value in watched.module.parameters()}
    assert not places(held) & watched.hidden
    assert holds(watched.trainer.optimizer.state_dict(), watched.secret) == []


def test_the_average_is_of_the_student_alone(watched: Watched) -> None:
    average = watched.trainer.ema.ema
    assert list(average.state_dict()) == list(watched.module.student.state_dict())
    assert not places(average.state_dict().values()) & watched.hidden
    assert holds(average, watched.secret) == []


def test_the_module_registers_student_and_adapters_only(watched: Watched) -> None:
    names = {name.partition(".")[0] for name, _ in watched.module.named_modules()} - {""}
    assert names == {"student", "distillers"}
    assert not {id(part) for part in watched.module.modules()} & {id(part) for part in watched.secret.modules()}
    for own in (watched.module.parameters(), watched.module.buffers()):
        assert not places(own) & watched.hidden
    state = watched.module.state_dict()
    assert {name.partition(".")[0] for name in state} == {"student", "distillers"}
    assert holds(state, watched.secret) == []


def test_ddp_sends_student_and_adapters_only(watched: Watched) -> None:
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(watched.module)
        sent = [*wrapped._module_parameters, *wrapped.modules_buffers]
        facts = wrapped._get_ddp_logging_data()
        own = [value for value in watched.module.parameters() if value.requires_grad]
        assert facts["num_parameter_tensors"] == len(own)
        assert facts["total_parameter_size_bytes"] == sum(value.numel() * value.element_size() for value in own)
        assert not places(sent) & watched.hidden
        wrapped.train()
        watched.teacher.assert_frozen()
    finally:
        distributed.destroy_process_group()


def test_no_checkpoint_has_it(watched: Watched) -> None:
    kept = sorted((watched.folder / "kept").iterdir())
    assert [path.name for path in kept] == ["best.pt", "last.pt", "resume.pt"]
    for path in (*kept, watched.folder / "student.pt"):
        content = torch.load(path, weights_only=False)
        assert len(list(tensors_of(content))) > 200
        assert holds(content, watched.secret) == [], path.name


def test_a_checkpoint_that_had_it_would_be_noticed(watched: Watched) -> None:
    """The search above finds the teacher where it is: as a module, as half precision, within other content."""
    twin = detector("yolo11n").module
    twin.load_state_dict(watched.secret.state_dict())
    kept = io.BytesIO()
    torch.save({"x": [{"teacher": twin.half()}]}, kept)
    packed = torch.frombuffer(bytearray(kept.getvalue()), dtype=torch.uint8)
    for content in ({"best": packed}, {"state": (watched.secret.state_dict(),)}, twin):
        assert set(holds(content, watched.secret)) == set(telling(watched.secret))
    assert len(telling(watched.secret)) > 150


@pytest.mark.parametrize("whom", ["module", "student", "distillers", "every part", "applied", "average"])
def test_train_does_not_reach_it(watched: Watched, whom: str) -> None:
    module = watched.module
    calls = {
        "module": module.train,
        "student": module.student.train,
        "distillers": module.distillers.train,
        "every part": lambda: [part.train() for part in module.modules()],
        "applied": lambda: module.apply(lambda part: part.train(True)),
        "average": lambda: AveragedModel(nn.Sequential(module)).train(),
    }
    for _ in range(2):
        calls[whom]()
        watched.trainer._model_train()
        watched.teacher.assert_frozen()
    module.requires_grad_(True)
    watched.teacher.assert_frozen()
    assert module.training
    assert module.student.training


def test_a_deep_copy_leaves_it_out(watched: Watched) -> None:
    copied = copy.deepcopy(watched.module)
    student, source = copied._holder
    assert source is watched.module.source and source.teachers == (watched.teacher,) * len(METHODS), "the same teacher"
    assert student.module is copied.student
    assert copied.student is not watched.module.student
    assert not places(copied.state_dict().values()) & watched.hidden
    batch = next(iter(watched.trainer.get_dataloader(watched.trainer.data["train"], 8, mode="val")))
    loss, items = copied.train()(watched.trainer.preprocess_batch(batch))
    assert torch.isfinite(loss).all()
    assert "kd/logit.class" in items


def test_it_is_never_pickled(watched: Watched) -> None:
    for dump in (pickle.dumps, lambda content: torch.save(content, io.BytesIO())):
        for content in (watched.teacher, watched.module, {"model": [watched.module]}):
            with pytest.raises(TypeError, match="the teacher is never pickled"):
                dump(content)
    assert holds(pickle.loads(pickle.dumps(watched.module.student)), watched.secret) == []
