import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from edgekd.devices import hashing
from edgekd.devices.faults import DeviceFault


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert hashing.digest(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_of_a_folder_depends_on_names_and_content_alone(tmp_path):
    first = make(tmp_path / "a", {"x": "1", "sub/y": "2"})
    same = make(tmp_path / "b", {"sub/y": "2", "x": "1"})
    os.utime(same / "x", (0, 0))
    (same / "x").chmod(0o600)
    assert hashing.digest(first) == hashing.digest(same)
    others = [{"x": "1", "sub/y": "3"}, {"x": "1", "sub/z": "2"}, {"x": "1"}, {"x": "1", "sub y": "2"}, {}]
    digests = [hashing.digest(make(tmp_path / f"c{number}", files)) for number, files in enumerate(others) if files]
    assert len({hashing.digest(first), *digests}) == 5


def test_names_cannot_be_mistaken_for_content(tmp_path):
    """Two files, and one whose name looks like what stands between them."""
    first = make(tmp_path / "a", {"x": "1", "y": "2"})
    inner = hashlib.sha256(b"1").hexdigest()
    second = make(tmp_path / "b", {f"x {inner}\n1 y": "2"})
    assert hashing.digest(first) != hashing.digest(second)


def test_a_change_is_seen(tmp_path):
    path = tmp_path / "x"
    path.write_text("one")
    before = hashing.digest(path)
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert hashing.digest(path) != before


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "x").write_text("one")
    read = []
    hashing._known_digest.cache_clear()
    monkeypatch.setattr(hashing, "sha256_file", lambda path: read.append(path) or "0" * 64)
    hashing.digest(tmp_path / "x")
    hashing.digest(tmp_path / "x")
    assert len(read) == 1
    hashing._known_digest.cache_clear()


def test_packing_gives_the_same_bytes_and_no_owner(tmp_path):
    first = make(tmp_path / "a", {"x": "1", "sub/y": "2", "n" * 200: "3"})
    (first / "tool").write_text("4")
    (first / "tool").chmod(0o700)
    os.link(first / "x", first / "z")
    (first / "link").symlink_to("x")
    packed = []
    for _ in range(2):
        stream = io.BytesIO()
        hashing.pack_folder(first, stream)
        packed.append(stream.getvalue())
        os.utime(first / "x", (0, 0))
    assert packed[0] == packed[1]
    with tarfile.open(fileobj=io.BytesIO(packed[0])) as archive:
        found = {entry.name: entry for entry in archive}
        assert {name: archive.extractfile(entry).read() for name, entry in found.items()} == {
            "x": b"1", "sub/y": b"2", "n" * 200: b"3", "tool": b"4", "z": b"1", "link": b"1",
        }  # fmt: skip
    assert all(entry.isreg() and entry.uid == 0 for entry in found.values())
    assert (found["tool"].mode, found["x"].mode) == (0o755, 0o644)


def test_nothing_there(tmp_path):
    with pytest.raises(DeviceFault, match="gone: is not there any more; do the stage that makes it again"):
        hashing.digest(tmp_path / "gone")
