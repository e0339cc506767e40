"""Student and distillers as one module for the engine; the teacher stays in its holder outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.contract import Detector
from edgekd.detectors.ultralytics import capture
from edgekd.distill.contract import Batch, Distiller
from edgekd.errors import InputError
from edgekd.report.warn import DETECTION
from edgekd.training.balance import REPORT_STEPS, Balance, Term
from edgekd.training.teacher import Teacher


class DistillationModule(nn.Module):
    """What the engine trains in place of the student.

    Called with a batch (a dict) in training mode, it returns the student's loss with the distillation loss appended;
    called with anything else, it is the student. Only `student` and `distillers` are registered: both are optimised,
    and checkpoints and EMA take `student` alone.
    """

    def __init__(self, student: Detector, distillers: list[Distiller], teacher: Teacher, epochs: int) -> None:
        super().__init__()
        self.student = student.module
        self.distillers = nn.ModuleList(distillers)
        self._holder = (student, teacher)  # a tuple: nn.Module does not register what lies in it
        self.balance = Balance()
        self.epochs = epochs
        self.steps_per_epoch = 1  # set by the trainer once its loader exists
        self.step = 0
        self._student_taps = tuple(dict.fromkeys(path for part in distillers for path in part.student_taps))
        self._teacher_taps = tuple(dict.fromkeys(path for part in distillers for path in part.teacher_taps))
        self._teacher_needs = frozenset().union(*(part.teacher_needs for part in distillers))
        self._labels = _labels(distillers)
        self._names: list[str] = []

    @property
    def student_model(self) -> nn.Module:
        """The name under which the engine looks for a wrapped student."""
        return self.student

    @property
    def _engine_model(self) -> Any:
        """The student, untyped: its `loss` is the engine's."""
        return self.student

    def __getattr__(self, name: str) -> Any:
        """What the engine reads (`stride`, `names`, `nc`, `args`, `criterion`, `end2end` ...) is the student's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("student"), name)

    def get_extra_state(self) -> dict[str, Any]:
        """What `state_dict` holds beside tensors: where the schedules are, and what was logged."""
        return {"step": self.step, "names": self._names, "balance": self.balance.state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.step, self._names = state["step"], state["names"]
        self.balance = Balance.from_state(state["balance"])

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
            result: tuple[Tensor, dict[str, Tensor]] = self._engine_model.loss(batch, preds)
            return result
        student, _ = self._holder
        with _captured(self.student, self._student_taps, student.spec.named_paths) as (taps, heads):
            detection, items = self._engine_model.loss(batch)
        output = student.read(heads[0], taps, batch["img"])
        scale = student.loss_scale(batch["img"].shape[0])
        terms = self._terms(output, batch, scale)
        if self.step < REPORT_STEPS or self.step % _log_every(self.steps_per_epoch) == 0:
            anchors = {**taps, **_head_anchors(heads[0])}
            self.balance.observe(self.step, self._epoch, [Term(DETECTION, detection.sum()), *terms], anchors)
        self.step += 1
        distillation = torch.stack([term.weighted for term in terms]).sum()
        logged = {f"kd/{term.name}": (term.weighted / scale).detach() for term in terms}
        return torch.cat([detection.reshape(-1), distillation.reshape(1)]), {**items, **logged}

    @property
    def _epoch(self) -> float:
        return self.step / self.steps_per_epoch

    def _terms(self, output: Any, batch: dict[str, Any], scale: float) -> list[Term]:
        _, teacher = self._holder
        facts = _batch_facts(batch)
        factors = [part.config.schedule.factor(self._epoch, self.epochs) for part in self._parts()]
        if not any(factors) and self._names:  # nothing acts any more: spare the teacher, keep the log's columns
            return [Term(name, batch["img"].new_zeros(()), 0.0) for name in self._names]
        teacher_output = teacher.forward(batch["img"], self._teacher_taps, self._teacher_needs)
        terms = []
        for part, label, factor in zip(self._parts(), self._labels, factors, strict=True):
            with torch.no_grad():
                knowledge = part.knowledge(teacher_output, facts)
            assert not any(value.requires_grad for value in knowledge.values()), f"{label}: the teacher has gradients"
            for name, value in part.terms(output, knowledge, facts, self.step).items():
                terms.append(Term(f"{label}.{name}", value, part.config.weight, factor, scale))
        self._names = [term.name for term in terms]
        return terms

    def _parts(self) -> Iterator[Distiller]:
        for part in self.distillers:
            assert isinstance(part, Distiller)
            yield part


def student_of(model: nn.Module) -> nn.Module:
    """The student inside the engine's, DDP's and the distillation wrapper; a control is its own student."""
    from ultralytics.utils.torch_utils import unwrap_model

    inner: nn.Module = unwrap_model(model)
    return inner.student if isinstance(inner, DistillationModule) else inner


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


@contextmanager
def _captured(
    student: nn.Module, paths: tuple[str, ...], named: tuple[str, ...]
) -> Iterator[tuple[dict[str, Tensor], list[Any]]]:
    """Outputs of the taps and of the head during the block. Hooks last only that long: none is copied or pickled."""
    taps: dict[str, Tensor] = {}
    heads: list[Any] = []
    layers: Any = student.model
    handles = [capture(student, path, taps, copy=path in named) for path in paths]
    handles.append(layers[-1].register_forward_hook(lambda _module, _inputs, output: heads.append(output)))
    try:
        yield taps, heads
    finally:
        for handle in handles:
            handle.remove()


def _head_anchors(raw: Any, name: str = "head") -> dict[str, Tensor]:
    """The tensors that the head returned, by name: both the student's own loss and the terms come from these."""
    if isinstance(raw, Tensor):
        return {name: raw} if raw.requires_grad else {}
    parts = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, (tuple, list)) else ()
    return {key: value for part, child in parts for key, value in _head_anchors(child, f"{name}.{part}").items()}


def _batch_facts(batch: dict[str, Any]) -> Batch:
    images = batch["img"]
    height, width = images.shape[-2:]
    boxes = batch["bboxes"]
    size = boxes.new_tensor([width, height])
    centre, half = boxes[:, :2] * size, boxes[:, 2:] * size / 2
    return Batch(
        images=images,
        image_index=batch["batch_idx"].view(-1).long(),
        class_ids=batch["cls"].view(-1).long(),
        boxes_px=torch.cat([centre - half, centre + half], 1),
    )


def _labels(distillers: list[Distiller]) -> list[str]:
    """Method names; a method used twice gets a number."""
    names = [part.name for part in distillers]
    return [
        name if names.count(name) == 1 else f"{name}{names[:index].count(name) + 1}" for index, name in enumerate(names)
    ]


def _log_every(steps_per_epoch: int) -> int:
    """About twenty rows per epoch and term are enough for any plot."""
    return max(1, steps_per_epoch // 20)
