"""Weights files that nobody should open: each would run code, take all memory, or is no checkpoint at all.

Those that run code would create the file `marker`.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekd.detectors.ultralytics import weights
from edgekd.detectors.ultralytics.architectures import architecture

NAMES = {0: "cat", 1: "dog", 2: "owl"}


class Call:
    """Pickled, it makes the reader call `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.made


def model() -> Any:
    """A sound network that has been trained on nothing."""
    torch.manual_seed(0)
    built = weights.build(architecture("yolo11p", "test"), len(NAMES), 3)
    built.names = dict(NAMES)
    return built


def checkpoint(path: Path, content: Any) -> None:
    torch.save({"model": content}, path)


def expression(marker: Path) -> str:
    """An activation that is an expression."""
    return f"__import__('pathlib').Path('{marker}').touch() or torch.nn.ReLU()"


def pickle_bomb(path: Path, marker: Path) -> None:
    checkpoint(path, Call(os.mkdir, str(marker)))


def bare_pickle_bomb(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Call(os.mkdir, str(marker))))


def bomb_beside_a_model(path: Path, marker: Path) -> None:
    torch.save({"model": model().half(), "train_args": {"epochs": Call(os.mkdir, str(marker))}}, path)


def method_bomb(path: Path, marker: Path) -> None:
    """By way of `getattr`, which checkpoints of the engine do call."""
    checkpoint(path, Call(Path.mkdir, marker))


def activation_in_a_checkpoint(path: Path, marker: Path) -> None:
    built = model()
    built.yaml["activation"] = expression(marker)
    checkpoint(path, built.half())


def activation_in_a_header(path: Path, marker: Path) -> None:
    built = model()
    built.yaml["activation"] = expression(marker)
    weights.save_safetensors(built, path, {})


def giant_in_a_header(path: Path, marker: Path) -> None:
    """The YAML describes a network of about 10**12 weights beside those of a small one."""
    built = model()
    built.yaml["scales"] = {"p": [1.0, 2000.0, 10**7]}
    weights.save_safetensors(built, path, {})


def download_by_a_constructor(path: Path, marker: Path) -> None:
    from ultralytics.nn.modules.block import TorchVision

    checkpoint(path, Call(TorchVision, "resnet18", "DEFAULT"))


def memory_by_a_constructor(path: Path, marker: Path) -> None:
    checkpoint(path, Call(torch.nn.Linear, 10**6, 10**6))


def memory_by_strides(path: Path, marker: Path) -> None:
    """One number, seen as a billion of them."""
    built = model().half()
    built.model[0].conv.weight.data = torch.zeros(1, dtype=torch.half).expand(10**9)
    checkpoint(path, built)


def compressed_zip_bomb(path: Path, marker: Path) -> None:
    """256 MiB of zeros in a file of 256 KiB, and sound as an archive."""
    _archive(path, {"x/data.pkl": pickle.dumps({}, 2), "x/version": b"3\n"}, {"x/data/0": 256 << 20})


def declared_zip_bomb(path: Path, marker: Path) -> None:
    """A member that says it is 8 GiB."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}, 2))
        archive.writestr("x/data/0", b"0")
        archive.filelist[1].file_size = 8 << 30


def overlapping_zip_bomb(path: Path, marker: Path) -> None:
    """A thousand members that are the same megabyte."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}, 2))
        archive.writestr("x/data/0", bytes(1 << 20))
        for index in range(1, 1000):
            twin = copy.copy(archive.filelist[1])
            twin.filename = f"x/data/{index}"
            archive.filelist.append(twin)


def two_directories(path: Path, marker: Path) -> None:
    """Python's reader finds a harmless list of members, PyTorch's another one."""
    torch.save({"model": None}, path)
    harmless = path.read_bytes()
    start = harmless.index(b"PK\1\2")
    bad = bytearray(harmless)
    bad[start:start] = harmless[start : harmless.index(b"PK\6\6")]  # the directory twice; its offset names the first
    path.write_bytes(bad)


def foreign_classes(path: Path, marker: Path) -> None:
    """As mmengine writes it: weights among a message hub, a config and numpy arrays, all of classes of their own."""
    made = {name: _fake_class(*name.rsplit(".", 1)) for name in (
        "mmengine.config.config.ConfigDict", "mmengine.logging.history_buffer.HistoryBuffer", "mmcv.cnn.Scale",
    )}  # fmt: skip
    try:
        hub, config, scale = (kind() for kind in made.values())
        hub.losses = np.arange(4.0)
        meta = {"cfg": config, "seed": np.float64(1), "message_hub": hub}
        torch.save({"meta": meta, "state_dict": {"scale": torch.ones(1)}, "scale": scale}, path)
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in ("mmengine", "mmcv")]:
            del sys.modules[name]


def torchscript(path: Path, marker: Path) -> None:
    torch.jit.script(torch.nn.ReLU()).save(str(path))


def text(path: Path, marker: Path) -> None:
    path.write_text("yolo\n")


def empty(path: Path, marker: Path) -> None:
    path.touch()


def truncated(path: Path, marker: Path) -> None:
    checkpoint(path, model().half())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def broken_pickle(path: Path, marker: Path) -> None:
    _archive(path, {"x/data.pkl": pickle.dumps(list(range(1000)), 2)[:500], "x/version": b"3\n"}, {})


def folder(path: Path, marker: Path) -> None:
    path.mkdir()


def another_task(path: Path, marker: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(3)}}, path)


def absurd_header(path: Path, marker: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def header_of_half_a_gigabyte(path: Path, marker: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 29) + b"{}" + bytes(100))


def header_of_another_kind(path: Path, marker: Path) -> None:
    content = json.dumps({"__metadata__": {"edgekd": json.dumps({"yaml": [1, 2], "names": 3})}}).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content)


# Maker -> (suffix, what the line says after the file's name).
FILES: dict[Callable[[Path, Path], None], tuple[str, str]] = {
    pickle_bomb: (".pt", "names posix.mkdir, so it is of another library, or hostile"),
    method_bomb: (".pt", "calls what builtins.getattr returned with arguments"),
    bare_pickle_bomb: (".pt", "is empty, damaged or no checkpoint of PyTorch (File is not a zip file)"),
    bomb_beside_a_model: (".pt", "names posix.mkdir, so it is of another library, or hostile"),
    activation_in_a_checkpoint: (".pt", "has the activation \"__import__('pathlib')"),
    activation_in_a_header: (".safetensors", "has the activation \"__import__('pathlib')"),
    giant_in_a_header: (".safetensors", "describes a network of "),
    download_by_a_constructor: (".pt", "calls ultralytics.nn.modules.block.TorchVision with arguments"),
    memory_by_a_constructor: (".pt", "calls torch.nn.modules.linear.Linear with arguments"),
    memory_by_strides: (".pt", "has weights that take more memory than the file is long"),
    compressed_zip_bomb: (".pt", "unpacks into 2684"),
    declared_zip_bomb: (".pt", "unpacks into 85899"),
    overlapping_zip_bomb: (".pt", "unpacks into 1048"),
    two_directories: (".pt", "lists its members in more than one place"),
    foreign_classes: (".pt", "names mmengine."),
    torchscript: (".pt", "names __torch__.torch.nn.modules.activation."),  # numbered if another was made before
    text: (".pt", "is empty, damaged or no checkpoint of PyTorch (File is not a zip file)"),
    empty: (".pt", "is empty, damaged or no checkpoint of PyTorch (File is not a zip file)"),
    truncated: (".pt", "is empty, damaged or no checkpoint of PyTorch (File is not a zip file)"),
    broken_pickle: (".pt", "holds a damaged pickle ("),
    folder: (
        ".pt",
        "is a folder; give the path of a weights file, or a folder of transformers, which has a config.json",
    ),
    another_task: (".pt", "holds no Ultralytics model"),
    absurd_header: (".safetensors", "is not a detector written by edgekd, or is damaged ("),
    header_of_half_a_gigabyte: (".safetensors", "is not a detector written by edgekd, or is damaged ("),
    header_of_another_kind: (".safetensors", "is not a detector written by edgekd, or is damaged ("),
}


def _archive(path: Path, plain: dict[str, bytes], zeros: dict[str, int]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in plain.items():
            archive.writestr(name, content)
        for name, size in zeros.items():
            with archive.open(name, "w") as stream:
                for _ in range(size >> 20):
                    stream.write(bytes(1 << 20))


def _fake_class(module: str, name: str) -> type:
    """A class in a module that exists while the file is written."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    made = type(name, (), {"__module__": module})
    setattr(sys.modules[module], name, made)
    return made
