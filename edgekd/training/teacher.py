"""The teacher: frozen, outside every module tree, so that no optimiser, EMA, checkpoint or DDP bucket ever sees it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from edgekd.detectors.capture import run
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Detector
from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import Needs, Spec
from edgekd.distill.contract import Pair
from edgekd.training.teacher_network import PrecisionName, Program, RuntimeName, TeacherNetwork
from edgekd.training.teacher_runtime import RUNTIMES


class AnyTeacher(Protocol):
    """What teaches: another detector, or the student's own average."""

    def pair(self, student: Spec) -> Pair:
        """With a student that learns from it."""
        ...

    def to(self, device: torch.device) -> AnyTeacher:
        """On the student's device."""
        ...

    def forward(self, images: Tensor, needs: Needs) -> DetectorOutput:
        """Outputs in float32 without gradients, with class logits in the data set's order."""
        ...

    def assert_frozen(self) -> None:
        """Rule: it is in eval mode and has no gradients, whatever the engine did."""
        ...


class Teacher:
    """Holds a frozen detector. Deep copies and pickles of anything that refers to it leave it where it is.

    Attributes:
        detector: in eval mode, without gradients; a copy that nobody else uses.
        class_map: from the teacher's classes to the data set's.
        runtime, precision: how it is run; a precision of None is that of the student's step, with OpenVINO fp32.
    """

    def __init__(
        self,
        detector: Detector,
        class_map: ClassMap,
        runtime: RuntimeName = "eager",
        precision: PrecisionName | None = None,
    ) -> None:
        self.detector = detector
        self.class_map = class_map
        self.runtime, self.precision = runtime, precision
        self.detector.module.eval().requires_grad_(False)
        self._programs: dict[Needs, Program] = {}

    @property
    def spec(self) -> Spec:
        """The teacher's own spec."""
        return self.detector.spec

    def pair(self, student: Spec) -> Pair:
        """With a student that learns from it."""
        return Pair.of(student, self.detector, self.class_map.columns)

    def to(self, device: torch.device) -> Teacher:
        """Move to the student's device.

        Raises:
            InputError: its runtime or precision is not for such a device.
            EnvironmentFault: what it needs is missing.
        """
        RUNTIMES[self.runtime].check(self.precision, device)
        module: Any = self.detector.module
        layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        module.to(device, memory_format=layout)
        return self

    @torch.no_grad()  # not inference_mode: inference tensors cannot be saved for the student's backward
    def forward(self, images: Tensor, needs: Needs) -> DetectorOutput:
        """Outputs in float32, whatever they were computed in, with class logits in the data set's order.

        On a CPU maps are laid out as the student's are, whatever is faster inside.

        Raises:
            EnvironmentFault: a compiler fails, or gives something else than torch.
        """
        tensors = {name: value.float() for name, value in self._program(needs)(images).items()}
        maps = {tap.key: tensors.pop(tap.key) for tap in needs.taps}
        if images.device.type == "cpu":
            maps = {key: value.contiguous() for key, value in maps.items()}
        output = self._own_precision(self.detector.assemble(tensors, maps, images), images)
        same = self.class_map.is_identity(len(self.spec.class_names))
        has_classes = output.queries is not None or "class_logits" in needs.head
        return self.class_map.apply(output) if has_classes and not same else output

    def _own_precision(self, output: DetectorOutput, images: Tensor) -> DetectorOutput:
        """Questions to its decoder are answered as its pass was computed, whatever the student computes in."""
        queries = output.queries
        if queries is None or queries.asked is None or (self.precision is None and self.runtime != "openvino"):
            return output
        plain = partial(torch.autocast, images.device.type, enabled=False)
        return replace(output, queries=replace(queries, asked=queries.asked.within(plain)))

    def _program(self, needs: Needs) -> Program:
        if needs not in self._programs:
            network = TeacherNetwork(self.detector, needs).eval()
            self._programs[needs] = RUNTIMES[self.runtime](network, self.precision)
        return self._programs[needs]

    def assert_frozen(self) -> None:
        """Rule: eval mode and no gradient, whatever the engine did.

        Raises:
            AssertionError: it is not so.
        """
        module = self.detector.module
        assert not any(part.training for part in module.modules()), "the teacher left eval mode"
        assert not any(parameter.requires_grad for parameter in module.parameters()), "the teacher has gradients"

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def __reduce__(self) -> str:
        raise TypeError("the teacher is never pickled")


class EmaTeacher:
    """The student's own average, which the engine keeps for validation and the checkpoint.

    It is another network in every step, and its hooks last one pass only: the engine saves it.
    """

    def __init__(self, spec: Spec) -> None:
        """`spec`: the student's."""
        self._spec = spec
        self._average: Detector | None = None

    def bind(self, average: Detector) -> None:
        """Say what the average is, once the engine has made it."""
        self._average = average

    def pair(self, student: Spec) -> Pair:
        """See `AnyTeacher.pair`; it has no part that stays the same."""
        return Pair(student, self._spec, known=(True,) * len(self._spec.class_names))

    def to(self, device: torch.device) -> EmaTeacher:
        """It is where the student is."""
        return self

    @torch.no_grad()
    def forward(self, images: Tensor, needs: Needs) -> DetectorOutput:
        """See `AnyTeacher.forward`."""
        assert self._average is not None, "the average exists once the training has begun"
        return run(self._average, images, needs)

    def assert_frozen(self) -> None:
        """Rule: the average is in eval mode and without gradients, as the engine keeps it.

        Raises:
            AssertionError: it is not so.
        """
        if self._average is not None:
            assert not self._average.module.training, "the student's average left eval mode"
            assert not any(value.requires_grad for value in self._average.module.parameters())

    def __deepcopy__(self, memo: dict[int, Any]) -> EmaTeacher:
        return self

    def __reduce__(self) -> str:
        raise TypeError("the teacher is never pickled")
