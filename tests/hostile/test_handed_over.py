"""What is handed on or only named: archives of bundles, `download:` of a data.yaml, programs of a recipe's devices."""

from __future__ import annotations

import os
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import yaml

from edgekd.data import train_view
from edgekd.devices import bundle
from edgekd.errors import InputError
from edgekd.stages.bundle import write_bundle
from tests.data.small_sets import read_yolo, yolo_set
from tests.hostile.nasty import NAMES
from tests.hostile.trial import limited, refused
from tests.stages.tiny import edgekd

FOLDERS = ["..", "../..", "..\\..\\x", "/etc", "C:\\x", "C:x", "a:b", "...", ".ssh", "a/b", "CON:", "\0", "a\nb"]
FACTS = {"runtime": "onnxruntime", "precision": "fp32", "channels": "3"}


@pytest.mark.parametrize("name", [*FOLDERS, *NAMES], ids=range(len(FOLDERS) + len(NAMES)))
def test_no_name_in_a_bundle_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    """The folder of a run gives its name to the one in the archive."""
    (tmp_path / "model.onnx").write_bytes(b"x")
    with limited():
        bundle.write(
            tmp_path / "b.zip", f"{name[:90]}-onnx-fp32", tmp_path, ["model.onnx"], np.zeros((2, 2, 3), np.uint8), FACTS
        )
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        names = [entry.orig_filename for entry in archive.infolist()]
        assert all(entry.external_attr >> 16 == 0o644 for entry in archive.infolist())  # no link, no program
    (folder,) = {each.split("/")[0] for each in names}
    for each in names:
        assert ".." not in PurePosixPath(each).parts
        assert PureWindowsPath(each).parts == PurePosixPath(each).parts
        assert not PureWindowsPath(each).drive
        assert each.isprintable()
    assert folder not in ("", ".", "..")
    assert not folder.startswith(".")


@pytest.mark.parametrize("content", [b"", b"mine", b"PK\x03\x04", b"PK\x05\x06" + bytes(18)])
def test_a_bundle_takes_no_other_files_place(content: bytes, tmp_path: Path) -> None:
    """A checkpoint of torch is an archive, too."""
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(InputError, match="is there already, and no bundle of edgekd; name another file, or remove it"):
        write_bundle(tmp_path / "run", "onnx-fp32", tmp_path / "best.pt")
    refused(2, "is there already", "bundle", tmp_path / "run", "--target", "onnx-fp32", "--out", tmp_path / "best.pt")
    assert (tmp_path / "best.pt").read_bytes() == content


def test_a_bundle_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    bundle.write(tmp_path / "b.zip", "a", tmp_path, ["model.onnx"], np.zeros((2, 2, 3), np.uint8), FACTS)
    with pytest.raises(InputError, match="run: no run"):
        write_bundle(tmp_path / "run", "onnx-fp32", tmp_path / "b.zip")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was started or connected to; nothing is."""
    tried: list[str] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        tried.append(repr(arguments)[:200])
        raise PermissionError("not in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr(os, "system", refuse)
    yield tried
    assert tried == []


DOWNLOADS: list[Any] = [
    "touch pwned", "bash -c 'touch pwned'", "open('pwned', 'w')", "__import__('os').system('touch pwned')",
    "import os\nos.system('touch pwned')\n", "https://example.org/data.zip", "http://127.0.0.1:1/x.zip",
    "file:///etc/passwd", "gs://a/b", "", None, True, 3, ["a"], {"a": "b"},
]  # fmt: skip


@pytest.mark.parametrize("there", [True, False], ids=["images there", "images missing"])
@pytest.mark.parametrize("download", DOWNLOADS, ids=range(len(DOWNLOADS)))
def test_download_is_never_done(
    download: Any, there: bool, tmp_path: Path, alone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tools run its text, or fetch its address, where images are missing."""
    monkeypatch.chdir(tmp_path)
    yolo_set(tmp_path, yaml.safe_dump({"names": ["ant", "bee", "cat"], "download": download}))
    if there:
        data = read_yolo(tmp_path, tmp_path)
        view = train_view.write(data, tmp_path / "run" / "train_view")  # all that the engine sees
        assert "download" not in yaml.safe_load(view.read_text())
    else:
        (tmp_path / "images").rename(tmp_path / "elsewhere")
        with limited(), pytest.raises(InputError, match="images"):
            read_yolo(tmp_path, tmp_path)
    assert not (tmp_path / "pwned").exists()


DEVICES = {
    "python: /no/evil": "python: /no/evil",
    "python: python3\ntools: {onnxruntime: {program: /no/evil}}": "python: python3; tools.onnxruntime: /no/evil",
    "tools: {onnxruntime: {push: /no/evil}}": "",
    "transport: ssh\nssh: {host: a, config: /no/evil}": "ssh.config: /no/evil, which may name programs (ProxyCommand)",
    "transport: ssh\nssh: {host: a}\npython: /there/python": "",
    "": "",
}


@pytest.mark.parametrize("text", DEVICES)
def test_check_names_what_a_recipe_runs_here(text: str, tmp_path: Path, alone: list[str]) -> None:
    (tmp_path / "d.yaml").write_text(f"runtimes: [onnxruntime]\n{text}\n")
    (tmp_path / "r.yaml").write_text(
        "name: a\ndata: {format: digits, imgsz: 64, train: 24, val: 8, test: 8}\nstudent: {model: yolo11p}\n"
        f"export: [onnx-fp32]\ndevices: ['{tmp_path}/d.yaml']\n"
    )
    ended = edgekd("check", tmp_path / "r.yaml", "--architecture-only")
    if "push" in text:
        assert (ended.code, "/no/evil: no such file on this machine" in ended.err) == (2, True)
        return
    assert ended.code == 0, ended.err
    assert (f"d: its file makes this machine run {DEVICES[text]}" in ended.out.replace("\n", " ")) is bool(
        DEVICES[text]
    )
    assert ("its file makes" in ended.out) is bool(DEVICES[text])
