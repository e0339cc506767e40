"""Weights files: round trips, and what damaged or hostile files get."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from edgekd.detectors import weights
from edgekd.detectors.architectures import architecture
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


class Bomb:
    """Pickled, it asks the reader to create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_a_pickle_bomb_does_not_go_off(tmp_path: Path) -> None:
    torch.save({"model": Bomb(tmp_path / "boom")}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    for name in ("bomb.pt", "plain.pt"):
        with pytest.raises(InputError) as error:
            weights.load(tmp_path / name, "teacher.weights")
        assert error.value.problems[0].startswith(f"teacher.weights: {tmp_path / name} cannot be read")
    assert not (tmp_path / "boom").exists()


def test_an_activation_expression_is_not_evaluated(model: torch.nn.Module, tmp_path: Path) -> None:
    target = tmp_path / "boom"
    hostile = {
        **architecture("yolo11p", "test"),
        "activation": f"__import__('pathlib').Path('{target}').touch() or torch.nn.ReLU()",
    }
    original = model.yaml
    try:
        model.yaml = hostile
        weights.save_safetensors(model, tmp_path / "hostile.safetensors", {})
    finally:
        model.yaml = original
    with pytest.raises(InputError):
        weights.load(tmp_path / "hostile.safetensors", "teacher.weights")
    assert not target.exists()


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
