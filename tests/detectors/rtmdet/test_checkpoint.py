from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.detectors import described
from edgekd.detectors.rtmdet.checkpoint import FILES, build, load, publish, save
from edgekd.detectors.rtmdet.network import RTMDet
from edgekd.detectors.rtmdet.scales import SCALES
from edgekd.errors import InputError
from tests.detectors.rtmdet.networks import CLASSES, lively, network

CONFIG = "model = dict(\n    bbox_head=dict(\n        exp_on_reg={},\n        num_classes=3))\n"
MMYOLO = {  # prefixes of mmdetection's names -> mmyolo's
    "neck.reduce_layers.0.": "neck.reduce_layers.2.",
    "neck.top_down_blocks.0.": "neck.top_down_layers.0.0.",
    "neck.reduce_layers.1.": "neck.top_down_layers.0.1.",
    "neck.top_down_blocks.1.": "neck.top_down_layers.1.",
    "neck.downsamples.": "neck.downsample_layers.",
    "neck.bottom_up_blocks.": "neck.bottom_up_layers.",
    "neck.out_convs.": "neck.out_layers.",
    "bbox_head.": "bbox_head.head_module.",
}


@pytest.fixture
def original() -> RTMDet:
    return network()


def checkpoint(original: RTMDet, **changed: Any) -> dict[str, Any]:
    """As mmengine writes one while it trains with an average of the weights."""
    state = original.state_dict()
    other = {f"module.{name}": torch.zeros_like(value) for name, value in state.items()}
    optimizer = {
        "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(4)}},
        "param_groups": [{"params": [0]}],
    }
    config = CONFIG.format(original.bbox_head.exponential)
    meta = {"epoch": 1, "cfg": config, "dataset_meta": {"classes": CLASSES, "palette": [(0, 0, 0)]}}
    return {
        "meta": meta, "state_dict": state, "ema_state_dict": {**other, "steps": torch.tensor(3)}, "message_hub": {},
        "optimizer": optimizer, "param_schedulers": [], **changed,
    }  # fmt: skip


def written(tmp_path: Path, content: Any, archive: bool = True) -> Path:
    path = tmp_path / "rtmdet.pth"
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    return path


def same(found: RTMDet, original: RTMDet) -> bool:
    state = original.state_dict()
    return all(torch.equal(value, state[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "as published"])
def test_mmdetection(tmp_path: Path, original: RTMDet, archive: bool) -> None:
    found, name = load(written(tmp_path, checkpoint(original), archive), "teacher.weights")
    assert (name, found.class_names, found.training) == ("rtmdet-p", CLASSES, False)
    assert same(found, original)
    blank = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(found(blank), original(blank), rtol=0, atol=0)


def test_mmyolo(tmp_path: Path, original: RTMDet) -> None:
    state = {theirs(name): value for name, value in original.state_dict().items()}
    found, name = load(written(tmp_path, {"state_dict": state}), "teacher.weights")
    assert name == "rtmdet-p"
    assert found.class_names == ("class 0", "class 1", "class 2")
    assert same(found, original)


def theirs(name: str) -> str:
    for ours, prefix in MMYOLO.items():
        if name.startswith(ours):
            return f"{prefix}{name.removeprefix(ours)}"
    return name


@pytest.mark.parametrize(
    ("usual", "config", "mmyolo", "exponential"),
    [(True, None, False, True), (True, None, True, False), (True, False, False, False), (False, True, False, True)],
)
def test_how_boxes_were_trained(
    tmp_path: Path, original: RTMDet, monkeypatch: pytest.MonkeyPatch,
    usual: bool, config: bool | None, mmyolo: bool, exponential: bool,
) -> None:  # fmt: skip
    """The configuration in the file says it; without one, mmdetection's larger sizes predict logarithms."""
    monkeypatch.setitem(SCALES, "p", replace(SCALES["p"], exponential=usual))
    state = original.state_dict()
    if mmyolo:
        state = {theirs(name): value for name, value in state.items()}
    meta = {} if config is None else {"cfg": CONFIG.format(config)}
    found, _ = load(written(tmp_path, {"meta": meta, "state_dict": state}), "student.weights")
    assert found.bbox_head.exponential is exponential


def test_names_of_wrappers_and_of_the_input_are_no_matter(tmp_path: Path, original: RTMDet) -> None:
    state = {f"module.{name}": value for name, value in original.state_dict().items()}
    state["module.data_preprocessor.mean"] = torch.zeros(3)
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    found, _ = load(written(tmp_path, {"state_dict": state}), "teacher.weights")
    counters = [value for name, value in found.state_dict().items() if name.endswith("num_batches_tracked")]
    assert counters
    assert not any(counters)


def without(state: dict[str, Tensor]) -> None:
    del state["neck.out_convs.1.conv.weight"]


def beyond(state: dict[str, Tensor]) -> None:
    state["bbox_head.kernel_convs.0.0.conv.weight"] = torch.zeros(1)


def reshaped(state: dict[str, Tensor]) -> None:
    state["bbox_head.rtm_reg.2.weight"] = torch.zeros(5, 32, 1, 1)


def other_classes(state: dict[str, Tensor]) -> None:
    state["bbox_head.rtm_cls.1.weight"] = torch.zeros(4, 32, 1, 1)


def unshared(state: dict[str, Tensor]) -> None:
    name = "bbox_head.cls_convs.2.1.conv.weight"
    state[name] = state[name] + 1


def infinite(state: dict[str, Tensor]) -> None:
    state["backbone.stem.0.bn.bias"] = torch.full((4,), torch.inf)


def narrower(state: dict[str, Tensor]) -> None:
    state["backbone.stem.2.conv.weight"] = state["backbone.stem.2.conv.weight"][:7]


def headless(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if name.startswith("bbox_head.")]:
        del state[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without, "it lacks neck.out_convs.1.conv.weight"),
        (beyond, "it has no place for bbox_head.kernel_convs.0.0.conv.weight"),
        (reshaped, r"has bbox_head.rtm_reg.2.weight of shape \(5, 32, 1, 1\), not \(4, 32, 1, 1\)"),
        (other_classes, r"has bbox_head.rtm_cls.1.weight of shape \(4, 32, 1, 1\), not \(3, 32, 1, 1\)"),
        (unshared, r"has levels with convolutions of their own \(bbox_head.cls_convs.2.1.conv.weight\)"),
        (infinite, "holds a NaN or an infinity in backbone.stem.0.bn.bias"),
        (narrower, "holds an RTMDet of no size that is known here .stem of 7 channels, 1 blocks in stage 2, 1 in"),
        (headless, r"holds no RTMDet \(no backbone.stem and bbox_head.rtm_cls\)"),
    ],
)
def test_every_weight_has_its_place(tmp_path: Path, original: RTMDet, change: Any, message: str) -> None:
    state = dict(original.state_dict())
    change(state)
    path = written(tmp_path, checkpoint(original, state_dict=state))
    with pytest.raises(InputError, match=message) as caught:
        load(path, "teacher.weights")
    assert str(caught.value).startswith(f"teacher.weights: {path} ")
    assert str(caught.value).endswith(
        "give an RTMDet checkpoint of mmdetection or mmyolo (.pth), or the student of an edgekd run"
    )


def test_names_that_do_not_fit_the_classes(tmp_path: Path, original: RTMDet) -> None:
    path = written(tmp_path, checkpoint(original, meta={"CLASSES": ("cat", "dog")}))
    with pytest.raises(InputError, match="names 2 classes and has 3"):
        load(path, "teacher.weights")


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no state_dict, so it is no checkpoint of mmdetection"):
        load(written(tmp_path, [1, 2]), "teacher.weights")
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        load(tmp_path / "none.pth", "teacher.weights")
    with pytest.raises(InputError, match=r"cannot be read \(it is a folder"):
        load(tmp_path, "teacher.weights")
    (tmp_path / "cut.safetensors").write_bytes(b"12")
    with pytest.raises(InputError, match="is damaged"):
        load(tmp_path / "cut.safetensors", "teacher.weights")


def written_by_us(original: RTMDet, folder: Path) -> None:
    save(original, "rtmdet-p", folder, {"size_px": 96})
    publish(original, "rtmdet-p", folder, {"ap": 0.5})


@pytest.mark.parametrize("name", FILES)
def test_written_and_read_back(tmp_path: Path, name: str) -> None:
    original = network(exponential=True)
    written_by_us(original, tmp_path)
    found, model = load(tmp_path / name, "student.weights")
    assert (model, found.class_names, found.bbox_head.exponential) == ("rtmdet-p", CLASSES, True)
    assert same(found, original)


def test_what_we_write_says_what_it_is(tmp_path: Path, original: RTMDet) -> None:
    written_by_us(original, tmp_path)
    header = described.header_of(tmp_path / FILES[0])
    said = json.loads((tmp_path / FILES[1]).read_text())
    for found in (header, said):
        assert found is not None
        assert (found["family"], found["model"], found["classes"]) == ("rtmdet", "rtmdet-p", list(CLASSES))
    assert header is not None
    assert header["size_px"] == 96
    assert said["input"]["channels"] == "blue, green, red"
    assert said["input"]["mean"] == pytest.approx([103.53, 116.28, 123.675])
    assert said["ap"] == 0.5


def test_the_pth_is_what_torch_itself_reads(tmp_path: Path, original: RTMDet) -> None:
    """By its restricted reader, so that no option is needed to open it."""
    publish(original, "rtmdet-p", tmp_path, {})
    content = torch.load(tmp_path / FILES[2], weights_only=True)
    assert content["meta"]["dataset_meta"]["classes"] == CLASSES
    other = network()
    lively(other, seed=1)
    other.load_state_dict(content["state_dict"])
    assert same(other, original)


def test_an_unknown_scale() -> None:
    with pytest.raises(InputError, match=r"student.model: unknown model 'rtmdet-n' \(known: .*rtmdet-tiny, rtmdet-x;"):
        build("rtmdet-n", CLASSES, 3, "student.model")
