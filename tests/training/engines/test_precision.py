"""A step's loss is the same in every number format, layout and runtime, within what each can keep.

Relative differences per term from float32 with the eager teacher, six methods, a trained teacher, real images; what was
measured when the tolerance was set stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.errors import EnvironmentFault, InputError
from edgekd.training.engines import precision
from edgekd.training.engines.build import make_trainer
from edgekd.training.engines.precision import amp_difference, amp_is_sound, require_amp
from tests.training.helpers import detector, methods, plan
from tests.training.helpers import teacher as untrained_teacher
from tests.training.steps import ALL, Step, batch_of, module_of, step

DETECTION = {"box_loss", "cls_loss", "dfl_loss"}
DISTILLATION = {"kd/logit.class", "kd/ld.box", *(f"kd/{name}.feature" for name in ("cwd", "pkd", "fitnet", "score_l2"))}


@dataclass(frozen=True)
class Setting:
    """Another way to do the same step, and how far its terms may be from float32."""

    name: str
    take: Callable[[dict[str, Tensor]], Step]
    tolerance: float
    gradients: float | None = None  # fresh weights magnify what half a precision leaves out
    detection_too: bool = True  # a runtime of the teacher leaves the student's own loss bit for bit


def in_channels_last(batch: dict[str, Tensor]) -> Step:
    module = module_of().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return step(module, {**batch, "img": batch["img"].contiguous(memory_format=torch.channels_last)})


def checkpointed_step(batch: dict[str, Tensor]) -> Step:
    return step(module_of(), batch, memory=True)


def by(runtime: str, precision: str | None) -> Callable[[dict[str, Tensor]], Step]:
    def take(batch: dict[str, Tensor]) -> Step:
        try:
            module = module_of(runtime=runtime, precision=precision)
        except EnvironmentFault as fault:
            pytest.skip(str(fault))
        return step(module, batch)

    return take


SETTINGS = [
    Setting("activation checkpointing", checkpointed_step, 0.0, gradients=0.0),
    Setting("channels last", in_channels_last, 1e-5, gradients=1e-2),  # 1e-7, 1e-4
    Setting("autocast fp16", lambda batch: step(module_of(), batch, amp=torch.float16), 5e-3),  # 8e-4
    Setting("autocast bf16", lambda batch: step(module_of(), batch, amp=torch.bfloat16), 5e-2),  # 1.3e-2
    Setting("openvino teacher", by("openvino", None), 1e-5, gradients=1e-4, detection_too=False),  # 2e-7, 2e-6
    Setting("teacher bf16", by("eager", "bf16"), 5e-3, gradients=0.1, detection_too=False),  # 6e-4, 0.02
    Setting("openvino teacher bf16", by("openvino", "bf16"), 5e-3, gradients=0.1, detection_too=False),  # 7e-4, 0.02
    pytest.param(Setting("compiled teacher", by("compile", None), 1e-5, detection_too=False), marks=pytest.mark.slow),
]


def assert_same(found: Step, expected: Step, setting: Setting) -> None:
    assert set(found.terms) == set(expected.terms) == DETECTION | DISTILLATION
    exact = set() if setting.detection_too else DETECTION
    for name, value in expected.terms.items():
        tolerance = 0.0 if name in exact else setting.tolerance
        torch.testing.assert_close(found.terms[name].float(), value, rtol=tolerance, atol=0.0, msg=name)
    torch.testing.assert_close(found.total.float(), expected.total, rtol=setting.tolerance, atol=0.0)


def flat(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in gradients.values()])


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def batch(tiny_digits: Path) -> dict[str, Tensor]:
    torch.set_num_threads(1)
    return batch_of(tiny_digits)


@pytest.fixture(scope="module")
def reference(batch: dict[str, Tensor]) -> Step:
    return step(module_of(), batch)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_terms_agree_with_float32(setting: Setting, batch: dict[str, Tensor], reference: Step) -> None:
    assert all(float(value) > 0.1 for value in reference.terms.values()), "every term says something"
    found = setting.take(batch)
    assert_same(found, reference, setting)
    if setting.gradients is not None:
        assert found.gradients.keys() == reference.gradients.keys()
        assert apart(flat(found.gradients), flat(reference.gradients)) <= setting.gradients
        for key, value in reference.buffers.items():
            torch.testing.assert_close(found.buffers[key], value, rtol=setting.tolerance, atol=setting.tolerance)


def halves(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    size = len(batch["img"]) // 2
    parts = []
    for start in (0, size):
        own = (batch["batch_idx"] >= start) & (batch["batch_idx"] < start + size)
        rows = {name: batch[name][own] for name in ("cls", "bboxes", "batch_idx")}
        parts.append({"img": batch["img"][start : start + size], **rows, "batch_idx": rows["batch_idx"] - start})
    return parts


def accumulated(module: Any, batches: list[dict[str, Tensor]], same_statistics: bool) -> Tensor:
    """All gradients after one backward pass per batch.

    Batch norms see the same statistics in each, or use the ones that they have learnt; the student's own loss is left
    out then, as it has no say in what a method's loss does.
    """
    module.step = 100  # the first steps measure gradients of their own
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.train(same_statistics)
    for one in batches:
        loss, _ = module(one)
        (loss.sum() if same_statistics else loss[-1]).backward()
    return flat({name: value.grad for name, value in module.named_parameters() if value.grad is not None})


class TestAccumulation:
    """The loss of a batch is its size times a mean, so halves add up to the gradient of the whole where their means
    weigh the same: always for means over positions; for means over weights, where the halves weigh the same."""

    @pytest.mark.parametrize("chosen", ["fitnet", "cwd"])
    def test_of_means_over_images_equals_the_whole_batch(self, chosen: str, batch: dict[str, Tensor]) -> None:
        keys = {chosen: {"per_image_below": 0} if chosen == "cwd" else {}}
        whole = accumulated(module_of(keys), [batch], same_statistics=False)
        parts = accumulated(module_of(keys), halves(batch), same_statistics=False)
        assert apart(parts, whole) < 1e-5

    def test_of_equal_halves_equals_the_whole_batch(self, tiny_digits: Path) -> None:
        """All but `pkd`, whose correlation is unbiased: its factor (M - 1) / M knows the size of the batch.

        Halves of 24 images: the engine's loss divides by the sum of target scores, or by 1 where that is less.
        """
        half = batch_of(tiny_digits, size=24)
        rows = {name: torch.cat([half[name], half[name]]) for name in ("img", "cls", "bboxes")}
        whole = {**rows, "batch_idx": torch.cat([half["batch_idx"], half["batch_idx"] + 24])}
        chosen = {name: keys for name, keys in ALL.items() if name != "pkd"}
        expected = accumulated(module_of(chosen), [whole], same_statistics=True)
        twice, once = (accumulated(module_of(chosen), [half] * times, same_statistics=True) for times in (2, 1))
        assert apart(twice, expected) < 1e-2
        assert apart(once, expected) == pytest.approx(0.5, abs=1e-2)

    def test_the_engine_steps_once_per_nominal_batch(self, tiny_digits: Path, tmp_path: Path) -> None:
        steps: list[int] = []
        asked = plan(tiny_digits, distillers=methods(logit={}), batch=4, nbs=8, warmup_epochs=0.0)
        trainer = make_trainer(asked, {"teacher": untrained_teacher()}, tmp_path)
        original = trainer.optimizer_step
        trainer.optimizer_step = lambda: (steps.append(trainer.train_loader.index), original())
        trainer.validate = lambda: ({}, 0.0)
        trainer.final_eval = lambda: None
        trainer.train()
        assert steps == [2, 4, 6]


class TestAmp:
    def test_formats_that_a_device_lacks_are_refused(self) -> None:
        for amp in (True, False, "fp16", "fp32", None):
            require_amp(amp, torch.device("cpu"))
        with pytest.raises(InputError) as error:
            require_amp("bf16", torch.device("cpu"))
        assert error.value.problems == ("train.amp: bf16 is for a GPU, the student is trained on cpu; use false",)

    def test_a_gpu_without_bf16_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
        with pytest.raises(EnvironmentFault, match=r"train\.amp: this GPU does not compute in bf16; use true"):
            require_amp("bf16", torch.device("cuda"))

    def test_on_a_cpu_the_answer_is_no(self) -> None:
        assert not amp_is_sound(detector("yolo11p").module)

    @pytest.mark.parametrize(
        ("name", "limit"),
        [("yolo11p", 0.05), ("yolo26p", 0.05), pytest.param("rtdetr-l", 0.5, marks=pytest.mark.slow)],
    )
    def test_the_student_answers_for_itself(self, name: str, limit: float) -> None:
        student = detector(name)
        module = student.module
        module.train()
        module.model[0].eval()  # a frozen layer
        before = {key: value.clone() for key, value in module.state_dict().items()}
        flags = [part.training for part in module.modules()]
        random = torch.random.get_rng_state()
        half = amp_difference(student, torch.float16)
        assert 0 < half < limit < precision.LARGEST_DIFFERENCE
        assert half < amp_difference(student, torch.bfloat16)
        assert [part.training for part in module.modules()] == flags
        assert torch.equal(torch.random.get_rng_state(), random)
        assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())

    def test_a_student_that_overflows_is_trained_in_float32(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        student = detector("yolo11p")
        module = student.module
        module.model[0].bn.weight.data *= 1e6  # beyond what fp16 can hold
        before = {name: value.clone() for name, value in module.state_dict().items()}
        assert amp_difference(student, torch.float16) == float("inf")
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
        monkeypatch.setattr(precision, "_has_amp", lambda device: True)
        assert not amp_is_sound(module)
        assert "train.amp: mixed precision gives other maps than float32" in capsys.readouterr().err


@pytest.mark.gpu
class TestOnAGpu:
    @pytest.mark.parametrize("amp", [torch.float16, torch.bfloat16])
    def test_autocast_agrees_with_float32(self, amp: torch.dtype, tiny_digits: Path) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        batch = batch_of(tiny_digits, device="cuda")
        expected = step(module_of(device="cuda"), batch)
        setting = Setting("autocast", lambda given: step(module_of(device="cuda"), given, amp=amp), 5e-2)
        assert_same(setting.take(batch), expected, setting)

    @pytest.mark.parametrize(("runtime", "precision"), [("compile", None), ("compile", "fp16"), ("eager", "bf16")])
    def test_teachers_agree_with_the_eager_one(self, runtime: str, precision: str | None, tiny_digits: Path) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        batch = batch_of(tiny_digits, device="cuda")
        expected = step(module_of(device="cuda"), batch)
        found = step(module_of(runtime=runtime, precision=precision, device="cuda"), batch)
        assert_same(found, expected, Setting("teacher", lambda _: found, 1e-4 if precision is None else 5e-3))

    def test_checkpointing_needs_less_memory(self, tiny_digits: Path) -> None:
        peaks = []
        for memory in (False, True):
            module = module_of(device="cuda")
            module.step = 100
            batch = batch_of(tiny_digits, device="cuda")
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()  # the module of the last turn may still be among it
            step(module, batch, memory=memory)
            peaks.append(torch.cuda.max_memory_allocated() - before)
        assert peaks[1] < peaks[0]
