"""Whatever runs the teacher, its outputs are those of the frozen detector; what cannot be had is refused."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import Needs, Part, Tap
from edgekd.errors import EnvironmentFault, InputError
from edgekd.training import teacher_openvino
from edgekd.training.teacher import Teacher
from edgekd.training.teacher_openvino import OpenVino
from edgekd.training.teacher_runtime import RUNTIMES
from tests.training.helpers import SAME_CLASSES, detector
from tests.training.steps import trained

CPU = torch.device("cpu")
BOTH: tuple[Part, ...] = ("class_logits", "boxes")
HEAD = Needs(parts=frozenset(BOTH))
NECK_AND_HEAD = Needs((Tap("neck", "model.16", 8, 64),), frozenset(BOTH))
SIZES = [(4, 96, 64), (3, 96, 64), (1, 96, 64), (4, 64, 128)]  # the last batch of an epoch is smaller; sizes may change


def assert_same(found: DetectorOutput, expected: DetectorOutput, relative: float) -> None:
    assert found.taps.keys() == expected.taps.keys()
    for path, map_ in expected.taps.items():
        assert found.taps[path].is_contiguous()
        assert found.taps[path].dtype is torch.float32
        assert_near(found.taps[path], map_, relative)
    assert found.dense.keys() == expected.dense.keys()
    for branch, wanted in expected.dense.items():
        given = found.dense[branch]
        assert given.level_sizes == wanted.level_sizes
        assert torch.equal(given.points_px, wanted.points_px)
        assert torch.equal(given.point_strides, wanted.point_strides)
        assert_near(given.class_logits, wanted.class_logits, relative)
        assert_near(given.boxes_px, wanted.boxes_px, relative)
        assert (given.box_logits is None) == (wanted.box_logits is None)
        if wanted.box_logits is not None and given.box_logits is not None:
            assert_near(given.box_logits, wanted.box_logits, relative)


def assert_near(found: Tensor, expected: Tensor, relative: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).norm()) <= relative * float(expected.norm())


@pytest.fixture(scope="module")
def converted() -> Teacher:
    return Teacher(trained().frozen(), SAME_CLASSES, "openvino").to(CPU)


@pytest.mark.parametrize(
    "name", ["yolo26p", *(pytest.param(name, marks=pytest.mark.slow) for name in ("yolo11p", "yolo12n"))]
)
def test_openvino_gives_what_torch_gives(name: str) -> None:
    built = detector(name)
    taps = tuple(tap.key for tap in built.spec.taps)
    teachers = [Teacher(built.frozen(), SAME_CLASSES, runtime).to(CPU) for runtime in ("openvino", "eager")]
    for batch, height, width in SIZES:
        images = torch.rand(batch, 3, height, width)
        found, expected = (teacher.forward(images, built.spec.needs(*taps, parts=BOTH)) for teacher in teachers)
        assert_same(found, expected, 1e-5)


def test_streams_share_the_batch_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads with four images or more each; of a smaller batch each takes what there is, in order."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    teacher, eager = (Teacher(trained().frozen(), SAME_CLASSES, runtime).to(CPU) for runtime in ("openvino", "eager"))
    for batch in (9, 8, 3, 1):
        images = torch.rand(batch, 3, 64, 64)
        found, expected = (one.forward(images, NECK_AND_HEAD) for one in (teacher, eager))
        assert_same(found, expected, 1e-5)
    (program,) = teacher._programs.values()
    assert isinstance(program, OpenVino)
    assert len(program._requests) == 2


def test_results_outlive_the_next_batch(converted: Teacher) -> None:
    """The runtime's memory is written over by the next batch; what was handed out is not."""
    teacher = converted
    first = teacher.forward(torch.rand(2, 3, 64, 64), NECK_AND_HEAD)
    kept = [first.taps["model.16"].clone(), first.dense["one2many"].class_logits.clone()]
    teacher.forward(torch.rand(2, 3, 64, 64), NECK_AND_HEAD)
    assert torch.equal(first.taps["model.16"], kept[0])
    assert torch.equal(first.dense["one2many"].class_logits, kept[1])


def random_states() -> list[Any]:
    numpy_state: Any = np.random.get_state()
    return [torch.get_rng_state().tolist(), random.getstate(), numpy_state[1].tolist()]


def test_only_the_needed_parts_are_converted() -> None:
    """And no random number is drawn, or the student would see other batches than the control."""
    teacher = Teacher(trained().frozen(), SAME_CLASSES, "openvino").to(CPU)
    teacher.detector.module.model[-1].cv2.register_forward_pre_hook(lambda *_: pytest.fail("the box head ran"))
    images = torch.rand(2, 3, 64, 64)
    before = random_states()
    output = teacher.forward(images, trained().spec.needs("model.16", parts=["class_logits"]))
    assert random_states() == before
    assert output.dense["one2many"].class_logits.shape == (2, 84, 10)
    with pytest.raises(RuntimeError, match="boxes were not computed"):
        _ = output.dense["one2many"].boxes_px


@pytest.mark.parametrize("runtime", ["eager", "openvino"])
def test_bf16_is_another_teacher_in_the_third_digit(runtime: Any) -> None:
    try:
        teacher = Teacher(trained().frozen(), SAME_CLASSES, runtime, "bf16").to(CPU)
    except EnvironmentFault as fault:
        pytest.skip(str(fault))
    images = torch.rand(2, 3, 96, 96)
    expected = Teacher(trained().frozen(), SAME_CLASSES).forward(images, NECK_AND_HEAD)
    found = teacher.forward(images, NECK_AND_HEAD)
    assert_same(found, expected, 0.05)
    with pytest.raises(AssertionError):
        assert_same(found, expected, 1e-4)


def test_a_precision_of_its_own_is_not_the_students() -> None:
    images = torch.rand(2, 3, 64, 64)
    expected = Teacher(trained().frozen(), SAME_CLASSES).forward(images, HEAD).dense["one2many"].class_logits
    found = {}
    for precision in ("fp32", None):
        teacher = Teacher(trained().frozen(), SAME_CLASSES, "eager", precision).to(CPU)  # type: ignore[arg-type]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found[precision] = teacher.forward(images, HEAD).dense["one2many"].class_logits
    torch.testing.assert_close(found["fp32"], expected, rtol=1e-4, atol=1e-4)
    assert 1e-3 < float((found[None] - expected).norm() / expected.norm()) < 0.05


@pytest.mark.parametrize("runtime", ["eager", "openvino"])
def test_a_compiled_teacher_is_still_only_a_teacher(runtime: str, converted: Teacher) -> None:
    teacher = {"eager": Teacher(trained().frozen(), SAME_CLASSES).to(CPU), "openvino": converted}[runtime]
    output = teacher.forward(torch.rand(2, 3, 64, 64), NECK_AND_HEAD)
    assert not output.taps["model.16"].requires_grad
    assert not output.taps["model.16"].is_inference(), "or the student could not save it for its backward pass"
    teacher.assert_frozen()
    assert deepcopy(teacher) is teacher
    student = torch.ones(1, requires_grad=True)
    (output.taps["model.16"] * student).sum().backward()
    assert student.grad is not None


class Recorder:
    """Stands in for `torch.compile`: notes the shapes and strides that it would compile for."""

    def __init__(self, change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors) -> None:
        self.shapes: list[tuple[Any, ...]] = []
        self.change = change

    def __call__(self, network: nn.Module) -> Callable[[Tensor], dict[str, Tensor]]:
        def run(images: Tensor) -> dict[str, Tensor]:
            self.shapes.append((*images.shape, images.stride()))
            return self.change(network(images))

        return run


class TestCompile:
    def test_a_smaller_batch_is_filled_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        recorder = Recorder()
        monkeypatch.setattr(torch, "compile", recorder)
        teacher = Teacher(trained().frozen(), SAME_CLASSES, "compile").to(CPU)
        eager = Teacher(trained().frozen(), SAME_CLASSES).to(CPU)
        for batch in (4, 4, 3, 1):
            images = torch.rand(batch, 3, 64, 64)
            found, expected = (one.forward(images, NECK_AND_HEAD) for one in (teacher, eager))
            assert_same(found, expected, 1e-5)
        assert recorder.shapes == [(4, 3, 64, 64, (12288, 1, 192, 3))] * 4

    def test_a_failing_compiler_is_the_environments_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: object) -> dict[str, Tensor]:
            raise RuntimeError("Python.h: no such file\nand more")

        monkeypatch.setattr(torch, "compile", Recorder(fail))
        with pytest.raises(EnvironmentFault) as error:
            Teacher(trained().frozen(), SAME_CLASSES, "compile").forward(torch.rand(2, 3, 64, 64), HEAD)
        assert error.value.problems == (
            "teacher.runtime: torch.compile failed (RuntimeError: Python.h: no such file); use eager",
        )

    def test_running_out_of_memory_is_left_to_the_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def exhausted(_: object) -> dict[str, Tensor]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(torch, "compile", Recorder(exhausted))
        with pytest.raises(torch.cuda.OutOfMemoryError):
            Teacher(trained().frozen(), SAME_CLASSES, "compile").forward(torch.rand(2, 3, 64, 64), HEAD)

    @pytest.mark.slow
    def test_for_real(self) -> None:
        built = detector("yolo11p")
        taps = tuple(tap.key for tap in built.spec.taps)
        teachers = [Teacher(built.frozen(), SAME_CLASSES, runtime).to(CPU) for runtime in ("compile", "eager")]
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]  # of the whole process
        for batch, height, width in [(4, 64, 64), (3, 64, 64), (4, 96, 64), (1, 128, 64)]:
            images = torch.rand(batch, 3, height, width)
            found, expected = (teacher.forward(images, built.spec.needs(*taps, parts=BOTH)) for teacher in teachers)
            assert_same(found, expected, 1e-4)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
        assert graphs == 2, "one for the first size, and one for any height"


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("change", "shown"),
        [
            (lambda tensors: {**tensors, "one2many scores": tensors["one2many scores"] * 1.01}, "differs by 1.00%"),
            (lambda tensors: {**tensors, "model.16": tensors["model.16"] * float("nan")}, "'model.16' differs by nan%"),
            (lambda tensors: {**tensors, "model.16": tensors["model.16"][..., :-1]}, "'model.16' differs by inf%"),
        ],
    )
    def test_a_runtime_that_gives_something_else(
        self, change: Any, shown: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch, "compile", Recorder(change))
        teacher = Teacher(trained().frozen(), SAME_CLASSES, "compile").to(CPU)
        with pytest.raises(EnvironmentFault) as error:
            teacher.forward(torch.rand(2, 3, 64, 96), NECK_AND_HEAD)
        (line,) = error.value.problems
        assert line.startswith("teacher.runtime: compile gives something else than torch at 96x64 px: ")
        assert shown in line

    def test_a_network_that_openvino_cannot_convert(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import openvino

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("no translator for aten::foo\nand more")

        monkeypatch.setattr(openvino, "convert_model", fail)
        teacher = Teacher(trained().frozen(), SAME_CLASSES, "openvino").to(CPU)
        with pytest.raises(EnvironmentFault) as error:
            teacher.forward(torch.rand(2, 3, 64, 64), HEAD)
        assert error.value.problems == (
            "teacher.runtime: OpenVINO failed (RuntimeError: no translator for aten::foo); use eager",
        )

    def test_fp16_on_a_cpu(self) -> None:
        with pytest.raises(InputError, match=r"teacher\.precision: fp16 is for a GPU; on a CPU use bf16 or fp32"):
            Teacher(trained().frozen(), SAME_CLASSES, "eager", "fp16").to(CPU)

    def test_openvino_beside_a_gpu(self) -> None:
        with pytest.raises(InputError, match="openvino is for a CPU, the student is trained on cuda:0; use compile"):
            RUNTIMES["openvino"].check(None, torch.device("cuda:0"))

    def test_openvino_on_a_processor_without_the_format(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Core:
            def get_property(self, *_: str) -> list[str]:
                return ["INT8", "FP32"]

        monkeypatch.setattr(teacher_openvino, "_shared_core", Core)
        RUNTIMES["openvino"].check("fp32", CPU)
        with pytest.raises(EnvironmentFault) as error:
            RUNTIMES["openvino"].check("bf16", CPU)
        assert error.value.problems == (
            "teacher.precision: this processor does not compute in bf16 (it has FP32, INT8); use fp32",
        )

    def test_compile_without_a_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda _: None)
        RUNTIMES["compile"].check(None, torch.device("cuda"))
        with pytest.raises(EnvironmentFault, match=r"compile needs a C\+\+ compiler and none is installed"):
            RUNTIMES["compile"].check(None, CPU)
