"""Artifacts of others: sidecars and models that lead outside, hold code, or hold nothing; here and in the agent."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edgekd.agent import __main__ as agent
from edgekd.agent.pipeline import Pipeline
from edgekd.agent.protocol import AgentError
from edgekd.errors import InputError
from edgekd.export.artifacts import open_artifact
from edgekd.testing.artifacts import write_artifact, write_pack
from tests.hostile.trial import limited, require_plain

Change = Callable[[Path], None]


def opened_here(folder: Path) -> str:
    """What the host says of it."""
    with limited(), pytest.raises(InputError) as caught:
        open_artifact(folder)
    (line,) = caught.value.problems
    require_plain(line)
    return line


def opened_there(folder: Path) -> str:
    """What the agent says of it."""
    pack = write_pack(folder.parent)
    arguments = agent.parser().parse_args(["predict", "--artifact", str(folder), "--pack", str(pack)])
    with limited(), pytest.raises(AgentError) as caught:
        Pipeline(arguments)
    return caught.value.message


def sidecar(folder: Path, **changes: Any) -> None:
    path = folder / "edgekd.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def seal(folder: Path) -> None:
    """Give the files their true hashes, as who made them would."""
    names = json.loads((folder / "edgekd.json").read_text())["files"]
    sidecar(folder, files={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names})


OUTSIDE = ["../secret.bin", "/etc/passwd", "a/../../secret.bin", "/dev/zero", "nowhere.bin", "/proc/self/mem"]


@pytest.mark.parametrize("location", [*OUTSIDE, "link.bin"])
def test_weights_outside_the_folder_are_not_read(location: str, tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "tiny")
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = onnx.load(folder / "model.onnx")
    (tensor,) = (one for one in model.graph.initializer if one.name == "quadrants")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "64")):
        tensor.external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    seal(folder)
    assert "External data path validation failed" in opened_there(folder)


def node(*arguments: Any, **keys: Any) -> Change:
    def change(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        model.graph.node.append(helper.make_node(*arguments, **keys))
        if keys.get("domain"):
            model.opset_import.append(helper.make_opsetid(keys["domain"], 1))
        onnx.save(model, folder / "model.onnx")

    return change


def content(name: str, written: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(written) and None  # type: ignore[func-returns-value]


def loop(folder: Path) -> None:
    """A node that reads what it makes."""
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]
    onnx.save(model, folder / "model.onnx")


MODELS: dict[str, Change] = {
    "custom operator": node("Evil", ["images"], ["x"], domain="evil.example"),
    "operator of Python": node("PyOp", ["images"], ["x"], domain="ai.onnx.contrib"),
    "operator of a library": node("PyCustomOpDef", ["images"], ["x"], domain="ai.onnx.contrib"),
    "unknown operator": node("Evil", ["images"], ["x"]),
    "attribute of another kind": node("Gather", ["images", "first"], ["x"], axis="0"),
    "input that is not there": node("Relu", ["nowhere"], ["x"]),
    "a loop": loop,
    "garbage": content("model.onnx", b"garbage" * 99),
    "nothing": content("model.onnx", b""),
    "zeros": content("model.onnx", bytes(5000)),
    "a script": content("model.onnx", b"#!/bin/sh\nid\n"),
    "a pickle": content("model.onnx", b"cos\nsystem\n(S'id'\ntR."),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_none(name: str, tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "tiny")
    MODELS[name](folder)
    seal(folder)
    assert "onnxruntime cannot load model.onnx" in opened_there(folder)


ENTITY = '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
BOMB = (
    '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {one} "{f"&{before};" * 10}">' for before, one in zip("abcdefghi", "bcdefghij", strict=True))
    + "]>"
)


def replaced(old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        text = (folder / "model.xml").read_text()
        assert old in text
        (folder / "model.xml").write_text(text.replace(old, new))

    return change


GRAPHS: dict[str, Change] = {
    "operator of an extension": replaced('type="AvgPool" version="opset', 'type="Evil" version="extension'),
    "operator of another library": replaced('version="opset1"', 'version="/tmp/evil.so"'),
    "name by an entity": replaced('<layer id="0" name="images"', '<layer id="0" nam="&x;"'),
    "weights behind the end": replaced('offset="0"', 'offset="99999999999"'),
    "weights of any size": replaced('size="', 'size="99999999'),
    "negative weights": replaced('offset="0"', 'offset="-9"'),
    "edges to nowhere": replaced('to-layer="1"', 'to-layer="99"'),
    "garbage": content("model.xml", b"garbage"),
    "nothing": content("model.xml", b""),
    "another document": content("model.xml", b"<html><script>alert(1)</script></html>"),
    "no weights": content("model.bin", b""),
    "open": content("model.xml", b"<net><layers>"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_of_openvino_that_is_none(name: str, tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "tiny", runtime="openvino")
    GRAPHS[name](folder)
    seal(folder)
    assert "openvino cannot load model.xml" in opened_there(folder)


@pytest.mark.parametrize("document", [ENTITY, BOMB], ids=["file", "bomb"])
def test_entities_of_xml_are_not_expanded(document: str, tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "tiny", runtime="openvino")
    text = (folder / "model.xml").read_text()
    entity = "&j;" if document == BOMB else "&x;"
    text = text.replace('name="images"', f'name="{entity}"', 1).partition("?>")[2]
    (folder / "model.xml").write_text(f'<?xml version="1.0"?>{document}{text}')
    seal(folder)
    pack = write_pack(folder.parent)
    with limited():  # it opens, since nothing asks for that name, or is refused: nothing is read, nothing grows
        try:
            lane = Pipeline(agent.parser().parse_args(["predict", "--artifact", str(folder), "--pack", str(pack)]))
            assert "root:" not in repr(lane.runtime.options)
        except AgentError as error:
            assert "root:" not in error.message


SIDECARS: dict[str, tuple[Any, str, str]] = {  # what the host says, what the agent says
    "no file": ({"files": {}}, "names no file", "lacks files"),
    "files as a list": ({"files": ["model.onnx"]}, "files: Input should be", "is damaged ("),
    "files of null": ({"files": None}, "files: Input should be", "lacks files"),
    "a hash of null": ({"files": {"model.onnx": None}}, "files.model.onnx: Input", "is damaged (TypeError"),
    "another hash": ({"files": {"model.onnx": "0" * 64}}, "its sha256 is not", "the sidecar says 000000000000..."),
    "two sizes": ({"input_shape": [1, 3]}, "input_shape.2: Field required", "input_shape is [1, 3]"),
    "a negative size": ({"input_shape": [-1, 3, 8, 8]}, "input_shape.0", "input_shape is [-1, 3, 8, 8]"),
    "a size of a billion": ({"size_px": [10**9, 10**9]}, "size_px.0", ""),
    "a size of text": ({"size_px": ["a", "b"]}, "size_px.0", "is damaged (ValueError"),
    "one side": ({"size_px": [8]}, "size_px.1", "is damaged (IndexError"),
    "sizes of text": ({"input_shape": "abcd"}, "input_shape", "is damaged (ValueError"),
    "an unknown decoder": ({"decode": "exec"}, "decode", "unknown kind 'exec'"),
    "an unknown runtime": ({"runtime": "../evil"}, "", "unknown runtime '../evil'"),
    "a scale of nothing": ({"scale": 0}, "scale", "scale is 0.0"),
    "a scale of text": ({"scale": "nan"}, "scale", "scale is nan"),
    "padding of a billion": ({"pad_value": 10**9}, "pad_value", "is damaged ("),
    "an unknown layout": ({"layout": "X"}, "layout", "'X' is none of NCHW, NHWC"),
    "an unknown order": ({"channel_order": "X"}, "channel_order", "'X' is none of RGB, BGR, as_data"),
    "objects as input": ({"input_dtype": "object"}, "input_dtype", "'object' is none of float32, uint8"),
    "thresholds of text": ({"nms": {"conf": "x", "iou": 1, "max_det": 1}}, "nms.conf", "is damaged (ValueError"),
    "thresholds of nothing": ({"nms": {}}, "", "is damaged (KeyError"),
    "an engine of a number": ({"build": 3}, "build", "is damaged (TypeError"),
    "another schema": ({"schema_version": "x"}, "schema_version", "schema_version: 'x'"),
    "an unknown key": ({"exec": "id"}, "exec: Extra inputs", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_that_is_wrong(name: str, tmp_path: Path) -> None:
    changes, here, there = SIDECARS[name]
    folder = write_artifact(tmp_path / "tiny")
    sidecar(folder, **changes)
    if here:
        assert here in opened_here(folder)
    if there:
        assert there in opened_there(folder)


@pytest.mark.parametrize(
    "name",
    ["../secret.bin", "/etc/passwd", ".", "..", "", "a/b", "a\0b", "x" * 300, "/dev/zero", "/dev/stdin", "a\n/b"],
)
def test_files_outside_the_folder_are_not_opened(name: str, tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "tiny")
    (tmp_path / "secret.bin").write_bytes(b"x")
    sidecar(folder, files={name: hashlib.sha256(b"x").hexdigest()})
    assert "is not a plain file name" in opened_here(folder)
    there = opened_there(folder)
    assert "is not a plain file name" in there or "cannot read (File name too long)" in there


DOCUMENTS = [
    b"",
    b"[]",
    b"null",
    b"3",
    b'"a"',
    b"{",
    b"\xff\xfe",
    b"[" * 5000,
    b'{"a":' * 5000,
    b"1" * 5000,
    b"NaN",
    bytes(9),
]


@pytest.mark.parametrize("written", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_a_sidecar_that_is_none(written: bytes, tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "tiny")
    (folder / "edgekd.json").write_bytes(written)
    assert "not a sidecar of edgekd (" in opened_here(folder)
    assert "cannot read the sidecar (" in opened_there(folder)


@pytest.mark.parametrize("name", ["edgekd.json", "model.onnx"])
def test_pipes_and_devices_are_not_waited_for(name: str, tmp_path: Path) -> None:
    for kind in ("pipe", "device", "folder"):
        folder = write_artifact(tmp_path / kind)
        (folder / name).unlink()
        if kind == "pipe":
            os.mkfifo(folder / name)
        elif kind == "device":
            (folder / name).symlink_to("/dev/zero")
        else:
            (folder / name).mkdir()
        here = opened_here(folder)
        assert "no regular file" in here or "missing, but named in edgekd.json" in here
        assert "is no regular file" in opened_there(folder)
