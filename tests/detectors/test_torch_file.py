from __future__ import annotations

import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.detectors import torch_file
from edgekd.detectors.inert import Foreign
from edgekd.detectors.torch_file import NotReadable, Stored

FORMS = pytest.mark.parametrize("archive", [True, False], ids=["archive", "pickles"])


def content() -> dict[str, Any]:
    layer = torch.nn.Conv2d(3, 4, 3)
    whole = torch.arange(12.0).reshape(3, 4)
    return {
        "meta": {"classes": ("a", "b"), "epoch": 3, "rate": 0.5},
        "state_dict": {
            **layer.state_dict(), "view": whole[1:, ::2], "turned": whole.T, "count": torch.tensor(7),
            "half": whole.half(), "brain": whole.bfloat16(), "truth": whole > 5, "empty": torch.zeros(0, 4),
        },
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip


@FORMS
def test_gives_what_was_saved(tmp_path: Path, archive: bool) -> None:
    saved, path = content(), tmp_path / "model.pth"
    torch.save(saved, path, _use_new_zipfile_serialization=archive)
    file = torch_file.read(path)
    assert file.content["meta"] == saved["meta"]
    tensors = file.tensors(file.content["state_dict"])
    assert list(tensors) == list(saved["state_dict"])
    for name, value in saved["state_dict"].items():
        torch.testing.assert_close(tensors[name], value, rtol=0, atol=0)
    stored = file.content["parameter"]
    assert isinstance(stored, Stored)
    assert file.read(stored).tolist() == [1, 1]


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


@FORMS
def test_nothing_that_a_file_names_is_run(tmp_path: Path, archive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(
        {"state_dict": {"a": torch.ones(1)}, "other": Bomb()}, "model.pth", _use_new_zipfile_serialization=archive
    )
    file = torch_file.read(Path("model.pth"))
    assert isinstance(file.content["other"], Foreign)
    assert file.tensors(file.content["state_dict"])["a"].item() == 1
    assert not Path("exploded").exists()


@FORMS
def test_classes_that_are_not_here_do_not_matter(
    tmp_path: Path, archive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = types.ModuleType("nowhere")
    module.History = type("History", (), {"__module__": "nowhere", "values": 1})
    monkeypatch.setitem(sys.modules, "nowhere", module)
    history = module.History()
    history.values = [1.0, 2.0]
    path = tmp_path / "model.pth"
    torch.save({"hub": {"loss": history}, "a": torch.ones(1)}, path, _use_new_zipfile_serialization=archive)
    monkeypatch.delitem(sys.modules, "nowhere")
    file = torch_file.read(path)
    assert isinstance(file.content["hub"]["loss"], Foreign)
    assert "nowhere" not in sys.modules


@FORMS
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, archive: bool, kept: float) -> None:
    path = tmp_path / "model.pth"
    torch.save({"state_dict": {"a": torch.rand(1000)}}, path, _use_new_zipfile_serialization=archive)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(NotReadable, match=r"truncated|damaged|no file of torch\.save"):
        torch_file.read(path)


def test_other_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(NotReadable, match=r"is no file of torch\.save"):
        torch_file.read(path)


def test_a_tensor_larger_than_its_values_is_refused(tmp_path: Path) -> None:
    """Strides of 0 make any size of one number, which a copy would then fill the memory with."""
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(1).expand(1 << 40)}, path)
    file = torch_file.read(path)
    with pytest.raises(NotReadable, match="a tensor is larger than what is stored of it"):
        file.tensors(file.content)


def test_an_archive_that_unpacks_into_more_than_it_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}))
        archive.writestr("model/data/0", bytes(1 << 20))
    with pytest.raises(NotReadable, match="unpacks into more than it is"):
        torch_file.read(path)


def test_values_that_changed_on_the_disk_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"a": torch.full((100,), 2.0)}, path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\0\0\0\x40" * 100, b"\0\0\0\x41" * 100))
    file = torch_file.read(path)
    with pytest.raises(NotReadable, match="the values of a tensor cannot be read"):
        file.tensors(file.content)
