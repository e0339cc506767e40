"""Files are whole or absent, and a disk that cannot be written is told as such."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.atomic import (
    atomic_path,
    disk_faults,
    read_json,
    remove_leftovers,
    sha256_file,
    sha256_json,
    write_bytes,
    write_json,
    write_text,
)
from edgekd.errors import EnvironmentFault, InputError


def test_writes_what_it_is_given(tmp_path: Path) -> None:
    write_bytes(tmp_path / "deep/er/a.bin", b"\0\1")
    write_text(tmp_path / "b.txt", "größe 図\n")
    write_json(tmp_path / "c.json", {"ap": 0.25, "name": "größe", "none": None})
    assert (tmp_path / "deep/er/a.bin").read_bytes() == b"\0\1"
    assert (tmp_path / "b.txt").read_bytes() == "größe 図\n".encode()
    assert (tmp_path / "c.json").read_text(
        encoding="utf-8"
    ) == '{\n  "ap": 0.25,\n  "name": "größe",\n  "none": null\n}\n'
    assert read_json(tmp_path / "c.json") == {"ap": 0.25, "name": "größe", "none": None}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.txt", "c.json", "deep"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a file system of the kernel's own is Linux'")
@pytest.mark.parametrize("path", ["/proc/mine", "/proc/mine/deep"])
def test_where_no_file_can_be(path: str) -> None:
    with pytest.raises(InputError, match=f"^{path}: no file can be made there; choose another place$"):
        write_text(Path(path), "a")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_that_no_reader_understands_is_not_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"ap": value})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="not JSON compliant"):
        sha256_json(value)


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    program = (
        "import os, signal, sys; from pathlib import Path; from edgekd.atomic import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('new'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.txt")], check=False).returncode == -9
    assert (tmp_path / "a.txt").read_text() == "old"
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note(number: int) -> None:
        order.append(Path(f"/proc/self/fd/{number}").readlink().name)
        fsync(number)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("replace"), replace(self, target))[1])
    (tmp_path / "run").mkdir()
    write_text(tmp_path / "run/a.txt", "x")
    assert order == [f".a.txt.{os.getpid()}.tmp", "replace", "run"], "and so is the name itself, by way of its folder"
    order.clear()
    write_text(tmp_path / "run/new/er/a.txt", "x")
    assert order == [f".a.txt.{os.getpid()}.tmp", "replace", "er", "new", "run"], "and folders made on the way"


def test_a_file_system_that_syncs_no_folders_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def refuse(number: int) -> None:
        if Path(f"/proc/self/fd/{number}").readlink().is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(number)

    monkeypatch.setattr(os, "fsync", refuse)
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM])
def test_a_full_or_forbidden_disk_is_the_environments_fault(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(EnvironmentFault) as caught, disk_faults(path):
        raise OSError(number, os.strerror(number))
    assert caught.value.problems == (
        f"{path}: cannot write ({os.strerror(number)}); free space or choose another --out",
    )
    assert caught.value.exit_code == 4


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = ["a.txt", ".lock", ".tmp", "a.tmp", ".a.txt.tmp", "train_view/.x.txt.12.tmp"]
    folders = (".onnx.12.tmp/model.onnx", "export/.onnx.7.old/model.onnx", "data/.train_view.9.tmp/images/a.png")
    for name in (*kept, ".a.txt.123.tmp", "deep/er/.state.pt.4.tmp", *folders):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(kept)
    assert not list(tmp_path.rglob("*.old"))


def test_other_errors_of_the_system_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_faults(tmp_path):
        (tmp_path / "none").read_text()


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "big").write_bytes(b"a" * 1_000_000)  # B.3
    assert sha256_file(tmp_path / "big") == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    assert sha256_json({"b": [1, 2.5], "a": None}) == sha256_json({"a": None, "b": [1, 2.5]})
    assert sha256_json({"a": 1}) != sha256_json({"a": "1"})
