"""Preparations are stages: done once for a teacher, a data set and what of the method decides them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.distill import contract
from tests.stages.tiny import edgekd, weights, write_recipe
from tests.training.absorbing import Absorbing


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Absorbing, "name", "absorbing", raising=False)
    contract.distiller_names()  # the built-in ones first
    monkeypatch.setitem(contract._REGISTRY, "absorbing", Absorbing)


def pair(folder: Path) -> None:
    weights(folder / "teacher.safetensors", "yolo11n")
    weights(folder / "student.safetensors", "yolo11p")


def test_done_once(tmp_path: Path) -> None:
    pair(tmp_path)
    recipe = write_recipe(tmp_path / "tiny.yaml", distill=["absorbing"], control=False, export=[], gate=None)
    left = tmp_path / "run" / "prepare" / "absorbing" / "prepared.safetensors"

    def distilled(*options: str) -> list[str]:
        ended = edgekd("distill", recipe, "--out", tmp_path / "run", *options)
        assert ended.code == 0, ended.err
        return [name for name in ended.kept if name in ("prepare/absorbing", "student")]

    assert distilled() == []
    first = left.read_bytes()
    assert distilled() == ["prepare/absorbing", "student"]
    assert distilled("--set", "distill=[{method: absorbing, weight: 2}]") == ["prepare/absorbing"]
    assert distilled("--set", "distill=[{method: absorbing, epochs: 1}]") == []
    assert left.read_bytes() != first
    assert sorted(path.name for path in left.parent.iterdir()) == ["epochs.csv", "prepared.safetensors"]


def test_not_while_quantising(tmp_path: Path) -> None:
    pair(tmp_path)
    recipe = write_recipe(
        tmp_path / "tiny.yaml", quantize={"mode": "qat", "teacher": "teacher", "distill": ["absorbing"]}
    )
    ended = edgekd("check", recipe)
    assert ended.code == 2
    assert ended.problems == [
        f"{recipe}: quantize.distill[0]: absorbing has a preparation, which this section does not do; use another "
        "method"
    ]
