"""The device's root and its emulator, made once and kept in a cache."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgekd.atomic import read_json, sha256_json, write_json
from edgekd.errors import EnvironmentFault
from edgekd.progress import progress
from tests.devicelab import packages, wheels

_FORM = 2  # of what is built; another one is built anew
_NEW = ".new-"
EMULATOR = "qemu-aarch64-static"
_EMPTY = ("dev", "proc", "sys", "tmp", "run", "root", "etc/ssh", "usr/bin")
_FILES = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n"
    "nobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "etc/hosts": "127.0.0.1 localhost\n",
}


class Built(NamedTuple):
    """What a lab is started from.

    Attributes:
        root: of the device.
        emulator: the program that runs its code.
        about: packages and wheels with their versions.
    """

    root: Path
    emulator: Path
    about: dict[str, list[str]]


def cache_folder() -> Path:
    """Where devices are kept, outside the project."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edgekd" / "devicelab"


def built(cache: Path) -> Built | None:
    """The device, if it is there as this version wants it."""
    folder = cache / _key()
    about = folder / "built.json"
    return Built(folder / "root", folder / EMULATOR, read_json(about)) if about.is_file() else None


def build(cache: Path) -> Built:
    """The device, made if it is not there: aside, and renamed when it is whole.

    Raises:
        EnvironmentFault: not possible here, or something could not be fetched.
    """
    if found := built(cache):
        return found
    require_builder()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if built(cache) is None:  # another one may have been building
            for old in (*cache.glob(f"{_NEW}*"), *(path.parent for path in cache.glob("*/built.json"))):
                shutil.rmtree(old, ignore_errors=True)  # other versions, and what a kill left behind
            with _aside(cache) as new:
                _make(new)
                new.rename(cache / _key())
    whole = built(cache)
    assert whole is not None
    return whole


def require_builder() -> None:
    """Raise what stands in the way of any device here.

    Raises:
        EnvironmentFault: not Linux on another processor than ARM, or not root.
    """
    if platform.system() != "Linux":
        raise EnvironmentFault(f"devicelab: {platform.system()} is not Linux; run it in a Linux machine")
    if platform.machine() in ("aarch64", "arm64"):
        raise EnvironmentFault("devicelab: this machine is ARM itself, and emulates none; use it as a device")
    if os.geteuid() != 0:
        raise EnvironmentFault("devicelab: needs root, for packages' owners and a chroot; run it with sudo")


def _key() -> str:
    about = {"form": _FORM, "packages": packages.WANTED, "emulator": packages.EMULATOR, "wheels": wheels.wanted()}
    return sha256_json(about)[:16]


@contextlib.contextmanager
def _aside(cache: Path) -> Iterator[Path]:
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=cache))
    new.chmod(0o755)
    try:
        yield new
    except OSError as error:
        raise EnvironmentFault(
            f"devicelab: {error.filename or new}: {error.strerror}; it takes 1 GB below {cache} while it is made"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _make(new: Path) -> None:
    root = new / "root"
    with progress("devicelab", 5) as advance, tempfile.TemporaryDirectory(prefix="fetched-", dir=new) as fetched:
        apt = packages.Apt(Path(fetched) / "apt")
        apt.update()
        advance(note="lists of packages")
        archives = apt.fetch()
        advance(note=f"{len(archives)} packages")
        for name in _EMPTY:
            (root / name).mkdir(parents=True, exist_ok=True)
        needed = [archive for archive in archives if packages.is_needed(archive)]
        for archive in needed:
            packages.unpack(archive, Path(fetched) if archive.name.startswith(packages.EMULATOR) else root)
        (Path(fetched) / "usr/bin" / EMULATOR).rename(new / EMULATOR)
        (root / "tmp").chmod(0o1777)
        for name, text in _FILES.items():
            (root / name).write_text(text)
        if not (root / "bin/sh").exists():
            (root / "bin/sh").symlink_to("dash")
        advance(note="unpacked")
        installed = wheels.install(root / "usr/lib/python3/dist-packages", _python(root))
        advance(note="wheels")
        about = {"packages": [packages.version_of(archive) for archive in needed], "wheels": installed}
        write_json(new / "built.json", about)
        advance()


def _python(root: Path) -> str:
    """Version of the device's Python, e.g. `3.11`."""
    return (root / "usr/bin/python3").readlink().name.removeprefix("python")
