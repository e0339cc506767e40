"""Student and distillers as one module for the engine; the teacher stays in its holder outside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgekd import ranks
from edgekd.detectors.contract import Trainable
from edgekd.detectors.outputs import Batch, Guidance, TrainingPass
from edgekd.detectors.spec import Needs
from edgekd.distill.contract import Distiller, Moment
from edgekd.distill.matching import SPENT
from edgekd.distill.terms import DETECTION
from edgekd.errors import InputError
from edgekd.training.balance import REPORT_STEPS, Balance, Term
from edgekd.training.distillers import labels
from edgekd.training.engines.batch import batch_of
from edgekd.training.knowledge import Knowledge, KnowledgeSource, Online
from edgekd.training.survey import TrainImages, TrainSurvey, undisturbed
from edgekd.training.teacher import AnyTeacher, EmaTeacher
from edgekd.training.weighting import GRADIENT_STEPS, auto_weight, gradient_norm

# What the engine reads of the model that it trains, beside what every module has. `student_model` is its own name for
# the student in a wrapper.
_STUDENTS = frozenset({"stride", "names", "nc", "args", "yaml", "criterion", "set_head_attr"})


class DistillationModule(nn.Module):
    """What the engine trains in place of the student.

    Called with a batch (a dict) in training mode, it returns the student's loss with the distillation loss appended;
    called with anything else, it is the student. Only `student` and `distillers` are registered: both are optimised,
    and checkpoints and EMA take `student` alone.

    A step goes from the teacher to the terms: knowledge, guidance of the student's own loss, the student's pass, terms.
    """

    def __init__(
        self,
        student: Trainable,
        network: nn.Module,
        distillers: Sequence[Distiller],
        teachers: Sequence[AnyTeacher],
        epochs: int,
        seed: int,
        source: KnowledgeSource | None = None,
    ) -> None:
        """Wrap a student.

        Args:
            network: what the engine trains in its place: its own module, or a shell around it.
            teachers: of each distiller, in their order; the same object where they share one.
            source: of knowledge, instead of these teachers.
        """
        super().__init__()
        self.student = network
        self.distillers = nn.ModuleList(distillers)
        found: KnowledgeSource = source or Online(distillers, teachers)
        self._holder = (student, found)  # a tuple: nn.Module does not register what lies in it
        self.balance = Balance()
        self.epochs, self.seed = epochs, seed
        self.steps_per_epoch = 1  # set by the trainer once its loader exists
        self.step = 0
        self._began = 0.0  # the step before this one
        self._surveyed = -1  # the epoch before which methods last looked at the data
        self._needs = Needs.merged(part.wiring.student for part in distillers)
        self._labels = labels([part.name for part in distillers])
        self._names: dict[str, list[str]] = {}  # label -> names of its terms
        self._auto = {
            label: auto_weight(part.config.wanted_share, part.config.share_of)
            for part, label in zip(distillers, self._labels, strict=True)
            if part.config.weight == "auto"
        }

    @property
    def student_model(self) -> nn.Module:
        """The name under which the engine looks for a wrapped student."""
        return self.student

    @property
    def detector(self) -> Trainable:
        """The student, as its family sees it."""
        return self._holder[0]

    @property
    def source(self) -> KnowledgeSource:
        """Where knowledge comes from."""
        return self._holder[1]

    def bind_average(self, average: nn.Module) -> None:
        """Say which module the engine averages the student in, for a method that learns from that."""
        student, source = self._holder
        for teacher in source.teachers:
            if isinstance(teacher, EmaTeacher):
                teacher.bind(student.with_module(average))

    def __getattr__(self, name: str) -> Any:
        """Of what is the student's, that which the engine reads; any other name is a mistake."""
        return getattr(super().__getattr__("student"), name) if name in _STUDENTS else super().__getattr__(name)

    def progress(self) -> dict[str, Any]:
        """What a training state holds beside the tensors of `state_dict`: where schedules are, and what was logged."""
        weights = {label: auto.state() for label, auto in self._auto.items()}
        return {
            "step": self.step, "surveyed": self._surveyed, "terms_of": self._names, "weights": weights,
            "balance": self.balance.state(),
        }  # fmt: skip

    def go_on_from(self, progress: Mapping[str, Any]) -> None:
        """Be where the module was whose `progress` this is."""
        self.step, self._names, self._surveyed = progress["step"], progress["terms_of"], progress["surveyed"]
        self.balance = Balance.from_state(progress["balance"])
        for label, kept in progress["weights"].items():
            self._auto[label].restore(kept)

    def begin_epoch(self, epoch: int, split: Callable[[], TrainImages]) -> None:
        """Let methods look at the data, those that want to, once before each epoch; all ranks together.

        Args:
            split: makes the train split, if there is such a method.
        """
        acting = [
            place
            for place, part in enumerate(self._parts())
            if part.surveys and epoch < (part.config.schedule.until(self.epochs) or self.epochs)
        ]
        if not acting or epoch == self._surveyed:
            return
        student, parts, train = self._holder[0], list(self._parts()), split()
        for place in acting:
            part, label = parts[place], self._labels[place]
            knowledge = partial(self.source.of_one, place, part)
            survey = TrainSurvey(train, student, part, knowledge, f"{label} looks at the train images")
            with undisturbed(self.student, train.device):
                part.epoch_began(self._moment(place, train.device, None), survey)
            if ranks.size() > 1:
                for buffer in part.buffers():
                    dist.broadcast(buffer, src=0)
        self._surveyed = epoch

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Loss for a batch, predictions for images."""
        if isinstance(x, dict) and self.training:
            return self.loss(x)
        return self.student(x, *args, **kwargs)

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Detection loss and weighted distillation terms.

        Returns:
            loss (n + 1,), which the engine sums; detached items to log, distillation terms as `kd/<method>.<term>`.
        """
        if not self.training:
            own: Any = self.student
            result: tuple[Tensor, dict[str, Tensor]] = own.loss(batch, preds)
            return result
        self._note_pace()
        student, _ = self._holder
        facts = batch_of(batch)
        factors = [part.config.schedule.factor(self._epoch, self.epochs) for part in self._parts()]
        acting = [factor > 0 or label not in self._names for factor, label in zip(factors, self._labels, strict=True)]
        knowledge = self.source.of(list(self._parts()), facts, acting)
        found = student.training_pass(facts, self._needs, self._guidance(knowledge, facts))
        scale = student.loss_scale(facts.size)
        terms = self._terms(found, knowledge, facts, factors, scale)
        if self.step < REPORT_STEPS or self.step % _log_every(self.steps_per_epoch) == 0:
            self.balance.observe(self.step, self._epoch, [Term(DETECTION, found.loss.sum()), *terms], found.anchors)
        self.step += 1
        weighted = [term.weighted for term in terms]  # none of a method that only decides who is positive
        distillation = torch.stack(weighted).sum() if weighted else facts.images.new_zeros(())
        logged = {f"kd/{term.name}": (term.weighted / scale).detach() for term in terms}
        return torch.cat([found.loss.reshape(-1), distillation.reshape(1)]), {**found.items, **logged}

    def _note_pace(self) -> None:
        """How long the last step took, from its beginning to this one's, and matching in it."""
        now, matching_s = perf_counter(), SPENT.take()
        if self._began:
            self.balance.pace(self.step, matching_s, now - self._began)
        self._began = now

    @property
    def _epoch(self) -> float:
        return self.step / self.steps_per_epoch

    def _guidance(self, knowledge: Sequence[Knowledge | None], batch: Batch) -> Guidance:
        """Of the one method that gives any; two would contradict each other, which `check` refuses."""
        for part, kept in zip(self._parts(), knowledge, strict=True):
            if part.guides and kept is not None:
                return part.guidance(kept, batch)
        return Guidance()

    def _terms(
        self,
        student: TrainingPass,
        knowledge: Sequence[Knowledge | None],
        batch: Batch,
        factors: Sequence[float],
        scale: float,
    ) -> list[Term]:
        terms = []
        for index, (part, label) in enumerate(zip(self._parts(), self._labels, strict=True)):
            kept = knowledge[index]
            if kept is None:  # it has ended: the log keeps its columns
                terms += [Term(name, batch.images.new_zeros(()), 0.0, ended=True) for name in self._names[label]]
                continue
            values = part.terms(student.output, kept, batch, self._moment(index, batch.images.device, ranks.rank()))
            weight = self._weight(part, label, student, scale, values)
            own = [
                Term(f"{label}.{name}", value, 1.0, 1.0, scale, auxiliary=True)
                if name in part.auxiliary
                else Term(f"{label}.{name}", value, weight, factors[index], scale)
                for name, value in values.items()
            ]
            self._names[label] = [term.name for term in own]
            terms += own
        return terms

    def _weight(
        self, part: Distiller, label: str, student: TrainingPass, scale: float, values: Mapping[str, Tensor]
    ) -> float | Tensor:
        """The recipe's, or the one that holds the method's share of the student's own loss or of its gradient."""
        if part.config.weight != "auto":
            return part.config.weight
        auto, detection = self._auto[label], student.loss.sum() / scale
        own = [value for name, value in values.items() if name not in part.auxiliary]
        if not own:  # of a method that only decides who is positive
            return 1.0
        taught = torch.stack(own).sum()
        if part.config.share_of == "loss":
            return auto.of(detection, taught)
        if auto.is_known and self.step % GRADIENT_STEPS:
            return auto.latest(detection.device)
        anchors = list(student.anchors.values())
        norms = [gradient_norm(value, anchors) for value in (detection, taught)]
        return auto.of(*(detection.new_zeros(()) if norm is None else norm for norm in norms))

    def _moment(self, index: int, device: torch.device, rank: int | None) -> Moment:
        """Seeded anew in each step, so that there is no state to keep; for a rank, or equally for all."""
        generator = torch.Generator(device)
        generator.manual_seed(_mixed(self.seed, index, self.step, -1 if rank is None else rank))
        return Moment(self.step, self._epoch, self.epochs, generator)

    def _parts(self) -> Iterator[Distiller]:
        for part in self.distillers:
            assert isinstance(part, Distiller)
            yield part


def unwrapped(model: Any) -> Any:
    """What torch.compile and DDP are wrapped around; untyped, for it is the engine's or a `DistillationModule`."""
    for name in ("_orig_mod", "module"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return unwrapped(inner)
    return model


def assert_optimised(module: DistillationModule, optimizer: torch.optim.Optimizer) -> None:
    """Rule: every adapter weight is in the optimiser, and none in the student.

    Raises:
        InputError: an adapter would not be trained.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, value in module.distillers.named_parameters() if id(value) not in held]
    if missing:
        names = ", ".join(missing[:3])
        raise InputError(f"distill: adapter weights {names} are not optimised; remove train.freeze on them")
    adapters = {id(value) for value in module.distillers.parameters()}
    assert not any(id(value) in adapters for value in module.student.parameters()), "an adapter is part of the student"


def _log_every(steps_per_epoch: int) -> int:
    """About twenty rows per epoch and term are enough for any plot."""
    return max(1, steps_per_epoch // 20)


def _mixed(*numbers: int) -> int:
    """One seed from several numbers; neighbours give unrelated ones."""
    digest = hashlib.sha256(",".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:7], "big")
