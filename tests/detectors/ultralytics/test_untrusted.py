"""Hostile files: none runs code, none takes memory, each is told in one line."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from edgekd.detectors.ultralytics import untrusted, weights
from edgekd.detectors.ultralytics.architectures import architecture
from edgekd.detectors.ultralytics.guard import exact_paths, guard
from edgekd.errors import InputError
from tests.detectors.ultralytics import hostile


@pytest.mark.parametrize("make", hostile.FILES, ids=lambda make: make.__name__)
def test_a_hostile_file_is_refused_in_one_line(make: Callable[[Path, Path], None], tmp_path: Path) -> None:
    suffix, text = hostile.FILES[make]
    path, marker = tmp_path / f"weights{suffix}", tmp_path / "marker"
    make(path, marker)
    with pytest.raises(InputError) as error:
        weights.load(path, "teacher.weights")
    (line,) = error.value.problems
    assert line.startswith(f"teacher.weights: {path} {text}")
    assert not marker.exists()


def test_the_bombs_are_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as such files usually are, they do run code."""
    for make in (hostile.pickle_bomb, hostile.method_bomb, hostile.bomb_beside_a_model):
        path, marker = tmp_path / f"{make.__name__}.pt", tmp_path / make.__name__
        make(path, marker)
        torch.load(path, weights_only=False)
        assert marker.exists()
    from ultralytics.nn import tasks

    config = {**architecture("yolo11p", "test"), "activation": hostile.expression(tmp_path / "activated")}
    monkeypatch.setattr(tasks, "SAFE_LOAD", False)
    tasks.parse_model(config, 3, verbose=False)
    assert (tmp_path / "activated").exists()


def peak_memory_kb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize(
    "make",
    [
        hostile.compressed_zip_bomb,
        hostile.declared_zip_bomb,
        hostile.overlapping_zip_bomb,
        hostile.memory_by_a_constructor,
        hostile.memory_by_strides,
        hostile.giant_in_a_header,
        hostile.header_of_half_a_gigabyte,
    ],
    ids=lambda make: make.__name__,
)
def test_memory_is_refused_before_it_is_used(make: Callable[[Path, Path], None], tmp_path: Path) -> None:
    path = tmp_path / f"weights{hostile.FILES[make][0]}"
    make(path, tmp_path / "marker")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    except OSError:
        pytest.skip("the peak of memory cannot be read here")
    before = peak_memory_kb()
    with pytest.raises(InputError):
        weights.load(path, "teacher.weights")
    assert peak_memory_kb() - before < 32 * 1024


def layer_yaml(**changes: Any) -> dict[str, Any]:
    return {"nc": 3, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[-1], 1, "Detect", ["nc"]]], **changes}


@pytest.mark.parametrize("text", ["nn.ReLU()", "torch.nn.LeakyReLU(0.1)", "nn.GELU(approximate='tanh')", " nn.SiLU() "])
def test_activations_of_torch_pass(text: str) -> None:
    untrusted.check_config(layer_yaml(activation=text))


@pytest.mark.parametrize(
    "text",
    [
        "nn.ReLU", "ReLU()", "os.system('x')", "nn.functional.relu()", "nn.LeakyReLU(open('x'))", "nn.X(**{})()",
        "__import__('os').nn.ReLU()", "(lambda: nn.ReLU())()", "nn.ReLU() or 1", "(" * 5000 + ")" * 5000, "\0", 3,
    ],
)  # fmt: skip
def test_other_expressions_do_not(text: Any) -> None:
    with pytest.raises(untrusted.Refused, match="has the activation"):
        untrusted.check_config(layer_yaml(activation=text))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (None, "is no model YAML"),
        ({"backbone": [], "head": 3}, "is no model YAML"),
        (layer_yaml(head=[[-1, 1, "Conv"]]), "has a layer that is not"),
        (layer_yaml(head=[[-1, "9", "Conv", []]]), "has a layer that is not"),
        (layer_yaml(head=[["a", 1, "Conv", []]]), "has a layer that is not"),
        (layer_yaml(head=[[-1, 10**9, "Conv", [16]]]), "repeats its layers more than 10000 times"),
        (layer_yaml(head=[[-1, 1, "TorchVision", [512, "resnet18"]]]), "downloads weights"),
        (layer_yaml(head=[[-1, 1, "TorchVision", [512, "resnet18", "DEFAULT", True]]]), "downloads weights"),
    ],
)
def test_model_yamls_that_are_refused(config: Any, text: str) -> None:
    with pytest.raises(untrusted.Refused, match=text):
        untrusted.check_config(config)


def test_every_model_yaml_of_the_engine_passes() -> None:
    guard()
    from ultralytics.utils import ROOT, YAML

    refused = []
    files = sorted((ROOT / "cfg" / "models").rglob("*.yaml"))
    for file in files:
        try:
            untrusted.check_config(YAML.load(file))
        except untrusted.Refused as error:
            refused.append((file.name, str(error)[:31]))
    assert len(files) > 50
    assert refused == [("yolo11-cls-resnet18.yaml", "has a TorchVision layer that do")]


class Restricted(Dataset[int]):
    """Says whether the engine is in its restricted mode in the process that asks."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        from ultralytics.nn.tasks import _SafeLoad

        return int(_SafeLoad.restricted()) + 2 * int(os.environ.get("ULTRALYTICS_SAFE_LOAD") == "1")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_data_loaders_are_restricted_too(method: str) -> None:
    guard()
    loader = DataLoader(Restricted(), num_workers=1, multiprocessing_context=multiprocessing.get_context(method))
    assert [int(value) for value in loader] == [3]


def test_an_engine_that_was_imported_before_is_restricted(monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics import utils
    from ultralytics.nn import tasks

    for module in (utils, tasks):
        monkeypatch.setattr(module, "SAFE_LOAD", False)
    assert not tasks._SafeLoad.restricted()
    guard()
    assert tasks._SafeLoad.restricted()
    assert utils.SAFE_LOAD


def test_the_engine_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the network with which it tries AMP on a GPU, while edgekd opens a file or trains."""
    guard()
    from ultralytics import utils
    from ultralytics.utils import checks, downloads

    asked: list[Any] = []
    monkeypatch.setattr(downloads, "safe_download", lambda *given, **_: asked.append(given))
    monkeypatch.setattr(utils, "WEIGHTS_DIR", tmp_path / "weights")
    parameter = SimpleNamespace(device=SimpleNamespace(type="npu"))
    with exact_paths():
        assert checks.check_amp(SimpleNamespace(parameters=lambda: iter([parameter])))
        with pytest.raises(ConnectionError, match=r"yolo26n\.pt is not there, and downloads are off"):
            downloads.attempt_download_asset("yolo26n.pt")
    assert asked == []
    assert list(tmp_path.iterdir()) == []
