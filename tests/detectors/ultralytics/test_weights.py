"""Weights files: round trips, and what damaged or hostile files get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.detectors.ultralytics import weights
from edgekd.detectors.ultralytics.architectures import architecture
from edgekd.errors import InputError


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    built = weights.build(architecture("yolo11p", "test"), 3, 3)
    built.names = {0: "cat", 1: "dog", 2: "owl"}
    return built


def test_safetensors_round_trip(model: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "pico.safetensors"
    weights.save_safetensors(model, path, {"ap": 0.5}, half=False)
    loaded = weights.load(path, "teacher")
    assert loaded.names == {0: "cat", 1: "dog", 2: "owl"}
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_half_precision_halves_the_file(model: torch.nn.Module, tmp_path: Path) -> None:
    weights.save_safetensors(model, tmp_path / "half.safetensors", {})
    weights.save_safetensors(model, tmp_path / "full.safetensors", {}, half=False)
    half, full = ((tmp_path / name).stat().st_size for name in ("half.safetensors", "full.safetensors"))
    assert 0.45 < half / full < 0.6


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04truncated"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files_get_one_line(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        weights.load(path, "teacher.weights")
    assert len(error.value.problems) == 1
    assert str(path) in error.value.problems[0]


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        weights.load(tmp_path / "none.pt", "teacher.weights")
    (tmp_path / "x.pth").touch()
    with pytest.raises(InputError, match=r"unknown suffix '\.pth' \(allowed: \.pt, \.safetensors\)"):
        weights.load(tmp_path / "x.pth", "teacher.weights")
    torch.save({"state_dict": {"w": torch.zeros(1)}}, tmp_path / "foreign.pt")
    with pytest.raises(InputError, match="holds no Ultralytics model"):
        weights.load(tmp_path / "foreign.pt", "teacher.weights")


@pytest.mark.parametrize("name", ["it's here", " spaces ", "yolov5n"])
def test_the_file_that_is_named_is_the_one_that_is_read(name: str, model: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / name / "yolov5n.pt"  # a name that the engine takes for another file, and downloads
    path.parent.mkdir()
    torch.save({"model": model}, path)
    assert weights.load(path, "teacher").names == {0: "cat", 1: "dog", 2: "owl"}
    assert [entry.name for entry in path.parent.iterdir()] == ["yolov5n.pt"]


def test_a_checkpoint_as_the_engine_writes_it_while_training(model: torch.nn.Module, tmp_path: Path) -> None:
    """With optimiser, paths, numpy scalars and a namespace beside the model: none of that is refused."""
    from ultralytics.utils import IterableSimpleNamespace

    optimizer = torch.optim.AdamW(model.parameters())
    content = {
        "epoch": 3, "best_fitness": np.float64(0.5), "model": None, "ema": model, "optimizer": optimizer.state_dict(),
        "train_args": {"data": Path("x.yaml"), "classes": {1, 2}}, "args": IterableSimpleNamespace(task="detect"),
        "train_metrics": {"fitness": np.float64(1)}, "scaler": {}, "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
    }  # fmt: skip
    torch.save(content, tmp_path / "last.pt")
    loaded = weights.load(tmp_path / "last.pt", "teacher")
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
