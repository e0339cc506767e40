"""Models of others: YAMLs of what cannot be built, checkpoints whose layers lead nowhere, weights of NaNs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from edgekd.detectors.contract import Asked
from edgekd.detectors.ultralytics.architectures import architecture
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.detectors.ultralytics.guard import guard
from edgekd.detectors.ultralytics.weights import load, save_safetensors
from edgekd.errors import InputError
from tests.detectors.ultralytics import hostile
from tests.hostile.trial import limited, require_plain
from tests.stages.tiny import detector

WIDTH = 10**9
BACKBONE: list[Any] = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]]
HEAD: list[Any] = [[[2], 1, "Detect", ["nc"]]]


def conv(*arguments: Any) -> dict[str, Any]:
    return {"backbone": [[-1, 1, "Conv", list(arguments)], *BACKBONE[1:]]}


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "stride zero": (conv(8, 3, 0), "stride"),
    "negative stride": (conv(8, 3, -2), "stride"),
    "a width of a billion": (conv(WIDTH, 3, 2), "numbers; at most 1,000,000,000 are built"),
    "a width of nothing": (conv(0, 3, 2), "("),
    "negative width": (conv(-8, 3, 2), "("),
    "width of text": (conv("many", 3, 2), "cannot be built ("),
    "width of a list": (conv([8], 3, 2), "cannot be built ("),
    "width of null": (conv(None, 3, 2), "cannot be built ("),
    "a kernel of a billion": (conv(8, WIDTH, 2), "("),
    "a kernel of nothing": (conv(8, 0, 2), "("),
    "no arguments": (conv(), "cannot be built ("),
    "twenty arguments": (conv(*range(1, 21)), "cannot be built ("),
    "scale of a billion": ({"scales": {"n": [1.0, 1e9, WIDTH]}}, "cannot be built (RuntimeError"),
    "depth of a billion": ({"scales": {"n": [1e9, 1, 9]}, "backbone": [[-1, 3, "C2f", [8]], *BACKBONE]}, "repeats its"),
    "scales of text": ({"scales": "n"}, "scales: must be a mapping of keys, got 'n'"),
    "scale of nothing": ({"scales": {"n": []}}, "cannot be built ("),
    "scale of null": ({"scales": {"n": None}}, "("),
    "from a layer that is not there": ({"head": [[99, 1, "Conv", [8, 3, 1]], *HEAD]}, "cannot be built (IndexError"),
    "from a layer before the first": ({"head": [[-99, 1, "Conv", [8, 3, 1]], *HEAD]}, "cannot be built (IndexError"),
    "detects on a layer that is not there": ({"head": [[[50], 1, "Detect", ["nc"]]]}, "cannot be built (IndexError"),
    "an unknown layer": ({"head": [[-1, 1, "Nowhere", [8]], *HEAD]}, "cannot be built (KeyError"),
    "a layer of torch": ({"head": [[-1, 1, "nn.Nowhere", [8]], *HEAD]}, "cannot be built ("),
    "a layer by its path": ({"head": [[-1, 1, "os.system", ["id"]], *HEAD]}, "cannot be built ("),
    "a function as layer": ({"head": [[-1, 1, "__import__", ["os"]], *HEAD]}, "cannot be built ("),
    "arguments that are code": (conv("__import__('os').system('id')", 3, 2), "cannot be built ("),
    "no head": ({"head": []}, "its head is Conv"),
    "a head of another task": ({"head": [[[-1], 1, "Segment", ["nc", 32, 64]]]}, "its head is Segment"),
    "classification": ({"head": [[-1, 1, "Classify", ["nc"]]]}, "its head is Classify"),
    "no backbone": ({"backbone": []}, "("),
    "a million repeats": ({"head": [[-1, 10**6, "Conv", [8, 3, 1]], *HEAD]}, "repeats its layers more than"),
    "an activation that is code": ({"activation": "__import__('os').system('id')"}, "has the activation"),
    "weights from the network": ({"backbone": [[-1, 1, "TorchVision", [8, "a", "DEFAULT"]]]}, "downloads weights"),
    "head of text": ({"head": "Detect"}, "is no model YAML"),
    "layers of text": ({"head": ["Detect"]}, "has a layer that is not"),
    "without classes": ({"nc": None, "head": None}, "is no model YAML"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_that_cannot_be_built(name: str, tmp_path: Path) -> None:
    changes, text = CONFIGS[name]
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump({"nc": 3, "backbone": BACKBONE, "head": HEAD, **changes}))
    with limited(), pytest.raises(InputError) as caught:
        UltralyticsDetector.opened(Asked(str(path), None, ("a", "b"), 3, "r.yaml: student"))
    (line,) = caught.value.problems
    require_plain(line)
    assert line.startswith("r.yaml: student.model: ") or "its head is" in line
    assert text in line


def test_the_model_without_a_fault_is_built(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"nc": 3, "backbone": BACKBONE, "head": HEAD}))
    made = UltralyticsDetector.opened(Asked(str(tmp_path / "m.yaml"), None, ("a", "b"), 3, "r.yaml: student"))
    assert made.spec.size_multiple == 8


def lead(module: Any, index: int, source: Any) -> None:
    module.model[index].f = source


def damage(module: Any, what: str) -> None:
    first = next(value for value in module.state_dict().values() if value.is_floating_point())
    if what == "nan":
        first.flatten()[0] = float("nan")
    elif what == "infinity":
        first.flatten()[0] = float("inf")
    elif what == "huge":
        for value in module.parameters():
            value.data.fill_(60000.0)
    elif what == "negative variance":
        next(part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)).running_var.fill_(-1.0)


CHECKPOINTS: dict[str, tuple[Any, str]] = {
    "from a layer that is not there": (lambda module: lead(module, 3, 99), "holds no detector that runs (IndexError"),
    "from a layer behind it": (lambda module: lead(module, 3, 20), "holds no detector that runs (IndexError"),
    "from a layer of text": (lambda module: lead(module, 3, "x"), "holds no detector that runs ("),
    "from nothing": (lambda module: lead(module, 3, None), "holds no detector that runs ("),
    "detects on layers that are not there": (lambda module: lead(module, -1, [90, 91, 92]), "holds no detector"),
    "keeps no layer": (lambda module: setattr(module, "save", []), "holds no detector that runs ("),
    "strides of nothing": (lambda module: setattr(module, "stride", torch.zeros(3)), "holds no detector that runs ("),
    "a stride of a million": (lambda module: setattr(module, "stride", torch.tensor([1e6])), "are not in 1..256"),
    "strides of text": (lambda module: setattr(module, "stride", "8"), "holds no detector that runs ("),
    "no layers": (lambda module: setattr(module, "model", torch.nn.Sequential()), "but holds 0"),
    "names of numbers": (lambda module: setattr(module, "names", 3), "("),
    "a NaN": (lambda module: damage(module, "nan"), "holds a NaN or an infinity in model.0.conv.weight"),
    "an infinity": (lambda module: damage(module, "infinity"), "holds a NaN or an infinity in model.0.conv.weight"),
    "a negative variance": (lambda module: damage(module, "negative variance"), "its outputs are not finite"),
    "huge weights": (lambda module: damage(module, "huge"), "its outputs are not finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_does_not_run(name: str, tmp_path: Path) -> None:
    change, text = CHECKPOINTS[name]
    module = hostile.model()
    change(module)
    path = tmp_path / "a.pt"
    torch.save({"model": module, "ema": None, "train_args": {}}, path)
    with limited(), pytest.raises(InputError) as caught:
        UltralyticsDetector.opened(Asked(None, path, ("a", "b"), 3, "r.yaml: teacher"))
    (line,) = caught.value.problems
    require_plain(line)
    assert line.startswith("r.yaml: teacher.weights: ")
    assert text in line


def test_safetensors_of_nans(tmp_path: Path) -> None:
    made = detector("yolo11p")
    damage(made.module, "nan")
    save_safetensors(made.module, tmp_path / "a.safetensors", {})
    with pytest.raises(
        InputError, match=r"holds a NaN or an infinity in model\.0\.conv\.weight; use weights of a training"
    ):
        load(tmp_path / "a.safetensors", "teacher.weights")


def test_every_shipped_model_is_within_the_extent() -> None:
    from edgekd.detectors.ultralytics import untrusted

    guard()
    for name in ("yolo11x", "yolo26x", "yolov8x", "rtdetr-x"):
        untrusted.check_extent(architecture(name, "x"), 3)
