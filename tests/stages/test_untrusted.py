"""Hostile weights and model YAMLs on the command line: exit code 2, one line, nothing run and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekd.detectors.ultralytics.architectures import architecture
from tests.detectors.ultralytics import hostile
from tests.stages.tiny import edgekd, snapshot, weights, write_recipe

NO_TARGETS: dict[str, Any] = {"export": [], "gate": {}}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights(tmp_path_factory.mktemp("sound") / "teacher.safetensors", "yolo11n")


@pytest.mark.parametrize(
    ("side", "make"),
    [
        *(("teacher", make) for make in hostile.FILES),
        *(("student", make) for make in (hostile.pickle_bomb, hostile.activation_in_a_checkpoint, hostile.folder)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_weights(side: str, make: Callable[[Path, Path], None], sound: Path, tiny_digits: Path, tmp_path: Path) -> None:
    suffix, text = hostile.FILES[make]
    path, marker = tmp_path / f"weights{suffix}", tmp_path / "marker"
    make(path, marker)
    sides = {"teacher": {"weights": str(sound)}, "student": {"model": "yolo11p"}, side: {"weights": path.name}}
    recipe = write_recipe(tmp_path / "x.yaml", data={"format": "yolo", "path": str(tiny_digits)}, **NO_TARGETS, **sides)
    before = snapshot(tmp_path)
    ended = edgekd("check", recipe)
    assert ended.code == 2
    (line,) = ended.problems
    assert line.startswith(f"{recipe}: {side}.weights: {path} {text}")
    assert not marker.exists()
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_model_yaml_with_an_activation_bomb(command: str, sound: Path, tiny_digits: Path, tmp_path: Path) -> None:
    marker, model = tmp_path / "marker", tmp_path / "model.yaml"
    model.write_text(yaml.safe_dump({**architecture("yolo11p", "x"), "activation": hostile.expression(marker)}))
    recipe = write_recipe(
        tmp_path / "x.yaml", data={"format": "yolo", "path": str(tiny_digits)}, teacher={"weights": str(sound)},
        student={"model": str(model)}, **NO_TARGETS,
    )  # fmt: skip
    ended = edgekd(command, recipe, *(["--out", tmp_path / "run"] if command == "run" else []))
    assert ended.code == 2
    (line,) = ended.problems
    assert line.startswith(f"{recipe}: student.model: {model} has the activation \"__import__('pathlib')")
    assert line.endswith("; allowed is one of torch.nn, such as nn.ReLU() or nn.LeakyReLU(0.1)")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"backbone": [[-1, 1, "Convv", [16, 3, 2]]]}, "cannot be built (KeyError: 'Convv'); correct it"),
        ({"backbone": [[-1, 1, "os.system", [16]]]}, "cannot be built ("),
        ({"backbone": [[-1, 1, "nn.functional", [16]]]}, "cannot be built ("),
        ({"backbone": [[-1, 1, "TorchVision", [512, "resnet18"]]]}, "has a TorchVision layer that downloads weights"),
        ({"backbone": [[-1, 1, "Conv"]]}, "has a layer that is not [from, repeats, module, arguments]"),
        ({"scales": {"n": "big"}}, "cannot be built ("),
    ],
)  # fmt: skip
def test_model_yamls_that_cannot_be_built(
    changes: dict[str, Any], text: str, sound: Path, tiny_digits: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.yaml"
    model.write_text(yaml.safe_dump({**architecture("yolo11p", "x"), **changes}))
    recipe = write_recipe(
        tmp_path / "x.yaml", data={"format": "yolo", "path": str(tiny_digits)}, teacher={"weights": str(sound)},
        student={"model": str(model)}, **NO_TARGETS,
    )  # fmt: skip
    ended = edgekd("check", recipe)
    assert ended.code == 2
    (line,) = ended.problems
    assert line.startswith(f"{recipe}: student.model: {model} {text}")
