"""Files that torchvision publishes or that its training script saves, and what is wrong with others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.torchvision import classes
from edgekd.detectors.torchvision.build import build
from edgekd.errors import InputError

SMALL = ("retinanet-p", "fcos-p", "ssdlite-p", "fasterrcnn-p")


def opened(model: str | None, path: Path) -> Detector:
    return families.open_detector("torchvision", Asked(model, path, ("cat",), 3, "teacher"))


def state(model: str, columns: int = 4, channels: int = 3) -> dict[str, Any]:
    torch.manual_seed(3)
    return dict(build(model, columns, channels).state_dict())


@pytest.mark.parametrize("model", SMALL)
def test_every_form_of_file(model: str, tmp_path: Path) -> None:
    tensors = state(model, channels=1)
    torch.save(tensors, tmp_path / "plain.pth")
    torch.save({"model": tensors, "epoch": 3, "args": {"lr": 0.1}}, tmp_path / "trained.pth")
    save_file(tensors, tmp_path / "plain.safetensors")
    for name in ("plain.pth", "trained.pth", "plain.safetensors"):
        detector = opened(model, tmp_path / name)
        assert detector.spec.name == model
        assert detector.spec.class_names == ("class 1", "class 2", "class 3"), "numbers as the labels of its training"
        assert detector.spec.input_channels == 1
        found = detector.module.state_dict()
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], value) for key, value in tensors.items())
        assert not detector.module.training


@pytest.mark.parametrize("names", [["cat", "dog", "bird"], ["__background__", "cat", "dog", "bird"]])
def test_names_stand_in_a_file_beside_it(names: list[str], tmp_path: Path) -> None:
    torch.save(state("fcos-p"), tmp_path / "mine.pth")
    (tmp_path / "mine.json").write_text(json.dumps({"classes": names}))
    detector: Any = opened("fcos-p", tmp_path / "mine.pth")
    assert detector.spec.class_names == ("cat", "dog", "bird")
    assert detector.columns == (1, 2, 3)


def test_all_columns_may_be_classes(tmp_path: Path) -> None:
    torch.save(state("fcos-p"), tmp_path / "mine.pth")
    (tmp_path / "mine.json").write_text(json.dumps({"classes": ["a", "b", "c", "d"]}))
    assert opened("fcos-p", tmp_path / "mine.pth").spec.class_names == ("a", "b", "c", "d")
    (tmp_path / "mine.json").write_text(json.dumps({"classes": ["a", "b"]}))
    with pytest.raises(InputError, match="4 columns of classes, and 2 class names are given; give 3, or 4 with"):
        opened("fcos-p", tmp_path / "mine.pth")
    (tmp_path / "mine.json").write_text("[]")
    with pytest.raises(InputError, match='has no list of class names under "classes"'):
        opened("fcos-p", tmp_path / "mine.pth")
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        opened("fcos-p", tmp_path / "mine.pth")


def test_cocos_91_columns_are_80_classes(tmp_path: Path) -> None:
    torch.save(state("ssdlite-p", 91), tmp_path / "coco.pth")
    detector: Any = opened("ssdlite-p", tmp_path / "coco.pth")
    assert len(detector.spec.class_names) == 80
    assert detector.columns[:3] == (1, 2, 3)
    names = dict(zip(detector.spec.class_names, detector.columns, strict=True))
    assert (names["person"], names["stop sign"], names["toothbrush"]) == (1, 13, 90)
    assert 12 not in detector.columns, "street sign, which no image has"
    assert classes.coco()[0] == "__background__"


def test_frozen_batch_norms_of_published_weights_have_their_own_eps(tmp_path: Path) -> None:
    """torchvision's `overwrite_eps(model, 0.0)`; weights that somebody trained are as they were built."""
    for columns, expected in ((91, 0.0), (4, 1e-5)):
        tensors = {
            key: value
            for key, value in state("retinanet_resnet50_fpn", columns).items()
            if not key.endswith("num_batches_tracked")
        }
        torch.save(tensors, tmp_path / "weights.pth")
        module = opened("retinanet_resnet50_fpn", tmp_path / "weights.pth").module
        assert {part.eps for part in module.modules() if isinstance(part, nn.BatchNorm2d)} == {expected}


def test_names_of_the_first_retinanet_are_translated(tmp_path: Path) -> None:
    tensors = state("retinanet-p")
    old = {
        key.replace(f"conv.{index}.0.", f"conv.{2 * index}."): value
        for key, value in tensors.items()
        for index in range(4)
        if f"_head.conv.{index}.0." in key
    }
    kept = {key: value for key, value in tensors.items() if "_head.conv." not in key}
    assert len(old) == 16
    torch.save({**kept, **old}, tmp_path / "old.pth")
    found = opened("retinanet-p", tmp_path / "old.pth").module.state_dict()
    assert all(torch.equal(found[key], value) for key, value in tensors.items())


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    tensors = state("fcos-p")

    def refused(content: Any, pattern: str, model: str = "fcos-p") -> None:
        torch.save(content, path)
        with pytest.raises(InputError, match=pattern) as caught:
            opened(model, path)
        assert len(caught.value.problems) == 1
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("teacher.weights: ")

    refused(tensors, "is no retinanet-p: 4 rows in head.classification_head.cls_logits.weight", "retinanet-p")
    refused(tensors, "is no ssdlite-p: it has no head.classification_head.module_list.0.1.weight", "ssdlite-p")
    less = {key: value for key, value in tensors.items() if key != "backbone.fpn.inner_blocks.0.0.weight"}
    refused(less, "is no fcos-p: it lacks backbone.fpn.inner_blocks.0.0.weight")
    refused({**tensors, "more": torch.ones(1)}, "is no fcos-p: it has no place for more")
    wide = {**tensors, "backbone.fpn.inner_blocks.0.0.weight": torch.ones(65, 24, 1, 1)}
    refused(wide, "is no fcos-p: size mismatch for backbone.fpn.inner_blocks.0.0.weight")
    key = "head.classification_head.cls_logits.bias"
    refused({**tensors, key: tensors[key] * float("nan")}, f"holds a NaN or an infinity in {key}")
    refused([1, 2], "holds no state_dict")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="is truncated, damaged or no file"):
        opened("fcos-p", path)
    other = tmp_path / "weights.safetensors"
    other.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is no safetensors file, or is damaged"):
        opened("fcos-p", other)
    with pytest.raises(InputError, match="cannot be read"):
        opened("fcos-p", tmp_path / "nowhere.pth")
    with pytest.raises(InputError, match=r"teacher.model: missing; weights of torchvision do not say"):
        opened(None, path)


@pytest.mark.parametrize(
    ("model", "published", "frozen"),
    [
        ("retinanet_resnet50_fpn", 34_014_999, True),
        ("retinanet_resnet50_fpn_v2", 38_198_935, False),
        ("fcos_resnet50_fpn", 32_269_600, True),
        ("ssdlite320_mobilenet_v3_large", 3_440_060, False),
        ("ssd300_vgg16", 35_641_826, False),
        ("fasterrcnn_resnet50_fpn", 41_755_286, True),
        ("fasterrcnn_resnet50_fpn_v2", 43_712_278, False),
        ("fasterrcnn_mobilenet_v3_large_fpn", 19_386_354, True),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 19_386_354, True),
        ("maskrcnn_resnet50_fpn", 44_401_393, True),
        ("maskrcnn_resnet50_fpn_v2", 46_359_409, False),
    ],
)
def test_parameters_are_those_that_torchvision_publishes(model: str, published: int, frozen: bool) -> None:
    """`num_params` of its weights; those of frozen batch norms are buffers there."""
    network = build(model, 91)
    norms = sum(
        value.numel() for part in network.modules() if isinstance(part, nn.BatchNorm2d) for value in part.parameters()
    )
    assert sum(value.numel() for value in network.parameters()) - norms * frozen == published
