"""Paths that a user gives: folders, pipes, devices, loops and names that cannot be, wherever a path is taken.

Devices stand behind links in the test's own folder: a fault that replaces what is there replaces the link, and not the
machine's device.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.gate.baseline import save
from tests.gate.test_baseline import release
from tests.hostile.trial import refused
from tests.report.make_run import make_run

NAMES = {
    "folder": "folder", "pipe": "pipe", "device": "device", "below a file": "file/x", "long name": "a" * 300,
    "long path": "/".join(["b" * 200] * 30), "loop": "loop", "below a loop": "loop/x", "NUL": "a\0b", "nothing": "",
    "here": ".", "above": "..", "escape sequence": "\x1b[31m/::error::x\n::error::y/" + "c" * 300,
}  # fmt: skip
IRREGULAR = (
    "pipe",
    "device",
    "loop",
    "long name",
    "long path",
    "NUL",
    "below a file",
    "below a loop",
    "escape sequence",
)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    make_run(folder / "run")
    save(folder / "store", release())
    (folder / "file").write_text("x")
    (folder / "folder").mkdir()
    (folder / "folder" / "x").touch()
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "loop").symlink_to("loop")
    return folder


@pytest.fixture(autouse=True)
def here(kitchen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kitchen)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "command",
    [
        ("history", "--store", "store", "--out"),
        ("bundle", "run", "--target", "onnx-fp32", "--out"),
        ("gate", "run", "--junit"),
        ("gate", "run", "--markdown"),
        ("compare", "a", "b", "--out", "c", "--junit"),
    ],
    ids=lambda command: f"{command[0]} {command[-1]}",
)
def test_a_file_that_cannot_be_written(command: tuple[str, ...], name: str) -> None:
    refused(2, f"'{command[-1]}'", *command, NAMES[name])
    assert Path("pipe").is_fifo()
    assert Path("device").is_symlink()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "command",
    [
        ("check",), ("run", "--out", "r"), ("gate",), ("report",), ("export",), ("baseline", "save", "v1"),
        ("data",), ("bundle", "--target", "x"), ("distill", "--out", "r"), ("validate",),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_an_input_that_cannot_be_read(command: tuple[str, ...], name: str) -> None:
    first = command[:2] if command[0] == "baseline" else command[:1]
    refused(2, "", *first, NAMES[name], *command[len(first) :])


@pytest.mark.parametrize("name", IRREGULAR)
@pytest.mark.parametrize(
    "command", [("data", "digits", "--imgsz", "32", "--out"), ("baseline", "save", "run", "v2", "--store")]
)
def test_a_folder_that_cannot_be_made(command: tuple[str, ...], name: str) -> None:
    refused(2, "", *command, NAMES[name])


@pytest.mark.parametrize("name", IRREGULAR)
def test_a_device_that_cannot_be_read(name: str) -> None:
    refused(2, "", "doctor", "--device", f"{NAMES[name]}")
    refused(2, "", "doctor", "--device", f"{NAMES[name]}.yaml")


def piped(folder: Path, name: str) -> None:
    os.mkfifo(folder / name)


def endless(folder: Path, name: str) -> None:
    (folder / name).symlink_to("/dev/zero")


def looped(folder: Path, name: str) -> None:
    (folder / name).symlink_to(name)


def foldered(folder: Path, name: str) -> None:
    (folder / name).mkdir()


KINDS = [piped, endless, looped, foldered]
RECIPE = "name: a\ndata: {format: digits, imgsz: 64, train: 24, val: 8, test: 8}\nstudent: {model: yolo11p}\n"
DATA = "train: images/train\nval: images/val\nnames: [ant]\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.yaml", ""),
        ("t.yaml", "export: [t.yaml]\n"),
        ("d.yaml", "devices: [d.yaml]\n"),
        ("w.pt", "teacher: {weights: w.pt}\n"),
        ("w.safetensors", "teacher: {weights: w.safetensors}\n"),
        ("m.yaml", "teacher: {model: m.yaml, weights: w.pt}\n"),
    ],
    ids=lambda name: name.partition(".")[0] if "{" not in name and "[" not in name else "",
)
def test_a_file_of_a_recipe(
    kind: Callable[[Path, str], None], name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kind(tmp_path, name)
    if name != "r.yaml":
        (tmp_path / "r.yaml").write_text(RECIPE + text)
    refused(2, "", "check", "r.yaml", *(["--architecture-only"] if name == "m.yaml" else []))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["data.yaml", "images/train/a.png", "labels/train/a.txt", "train.txt", "a.json"])
def test_a_file_of_the_data(kind: Callable[[Path, str], None], name: str, tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (tmp_path / folder / split).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "images" / split / "b.png")
        (tmp_path / "labels" / split / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "train" / "a.png")
    (tmp_path / "data.yaml").write_text(DATA.replace("images/train", "train.txt") if name == "train.txt" else DATA)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    kind((tmp_path / name).parent, Path(name).name)
    section = "data: {format: yolo, path: data.yaml}"
    if name == "a.json":
        files = "{images: images/train, annotations: a.json}"
        section = f"data: {{format: coco, train: {files}, val: {files}}}"
    (tmp_path / "r.yaml").write_text(RECIPE.replace(RECIPE.splitlines()[1], section))
    if kind is foldered and name == "images/train/a.png":
        pytest.skip("a folder called a.png is a folder of images")
    refused(2, "", "data", tmp_path / "r.yaml")
