"""Which device a process takes."""

from __future__ import annotations

import types

import pytest
import torch

from edgekd.errors import EnvironmentFault, InputError
from edgekd.ranks import World, group
from edgekd.training.engines.placement import engine_device, torch_device


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Four of them, as far as torch can tell."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return monkeypatch


def be(patch: pytest.MonkeyPatch, *world: int) -> None:
    patch.setattr(group, "_joined", types.SimpleNamespace(world=World(*world)))


def test_alone_the_recipe_decides(gpus: pytest.MonkeyPatch) -> None:
    assert [engine_device(asked) for asked in (None, "cpu", 2, "0")] == [None, "cpu", 2, "0"]
    assert [str(torch_device(asked)) for asked in (None, "cpu", 2, "cuda:1", "mps")] == [
        "cuda", "cpu", "cuda:2", "cuda:1", "cpu",
    ]  # fmt: skip
    with pytest.raises(
        InputError, match=r"^train\.device: got 4, but torch sees 4 here \(0 to 3\); write one of these, or cpu$"
    ):
        torch_device(4)
    with pytest.raises(
        InputError, match=r"^train\.device: got 'gpu'; write cpu, or the number of a GPU: 0 is the first"
    ):
        torch_device("gpu")


def test_alone_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(torch_device(None)) == "cpu"
    with pytest.raises(InputError) as caught:
        torch_device(0)
    assert caught.value.problems == (
        "train.device: got 0, but torch sees no GPU here; write 'device: cpu', or leave it out to take what there is",
    )
    be(monkeypatch, 1, 2, 1, 2)
    assert engine_device(None) == "cpu"


def test_each_of_several_takes_its_own(gpus: pytest.MonkeyPatch) -> None:
    be(gpus, 6, 8, 2, 4)  # the third process of the second machine
    assert engine_device(None) == "2"
    assert str(torch_device(None)) == "cuda:2"
    assert engine_device("cpu") == "cpu"


def test_where_each_sees_its_own_only(gpus: pytest.MonkeyPatch) -> None:
    gpus.setattr(torch.cuda, "device_count", lambda: 1)
    be(gpus, 2, 4, 2, 4)
    assert engine_device(None) == "0"


def test_too_few(gpus: pytest.MonkeyPatch) -> None:
    be(gpus, 13, 16, 5, 8)
    with pytest.raises(EnvironmentFault, match=r"process 13 is number 5 on its machine, which has 4 GPUs$"):
        engine_device(None)


@pytest.mark.gpu
def test_detections_on_a_gpu_are_those_of_the_cpu() -> None:
    """As near to float64 as the CPU's own: float32 alone moves a box of random weights by up to 0.16 px."""
    from edgekd.detectors.ultralytics.heads import DenseExport
    from edgekd.stages.accuracy import _full_float32
    from tests.stages import tiny

    module = DenseExport(tiny.detector("yolo11n").module, "one2many")
    images = torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), _full_float32():
        there = [part.double().cpu() for part in module.to("cuda")(images.to("cuda"))]
        here = [part.double() for part in module.to("cpu")(images)]
        exact = module.double()(images.double())
    for gpu, cpu, true in zip(there, here, exact, strict=True):
        assert (gpu - true).abs().max() <= 4 * (cpu - true).abs().max()
        assert (gpu - true).abs().mean() <= 4 * (cpu - true).abs().mean()  # TF32 would be a thousand times off
