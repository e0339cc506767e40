"""The finished tiny run that several test modules look at: made once, by a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgekd.data.digits import generate
from tests.stages.tiny import CAP_SECONDS, PROTOCOL, Ended, short_protocol, weights, write_recipe

Tree = dict[str, tuple[str, int, bytes]]

# What no file of a run may repeat. The engine writes the state of its own git repository into each checkpoint.
SECRETS = {
    "user": "secret-user", "home": "secret-home", "origin": "git.example.org/secret-team/secret-origin.git",
    "root": "/srv/secret-root", "branch": "secret-branch", "commit": "5ec8e7c0331715ec8e7c0331715ec8e7c0331715",
    "message": "secret message",
}  # fmt: skip

# The command line with short profiles, the engine installed from a repository of secrets, and a look-out: everything
# that Python opens for writing, makes, moves or removes is noted.
DRIVER = f"""
import os, sys
def look_out(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        written = mode and set(mode) & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        paths = [path] if written else []
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime"):
        paths = arguments[:1]
    elif event in ("os.rename", "os.link"):
        paths = arguments[:2]
    else:
        paths = arguments[1:2] if event == "os.symlink" else []
    folder = arguments[-1] if event in ("os.mkdir", "os.remove", "os.rmdir") else -1
    base = os.readlink("/proc/self/fd/" + str(folder)) if folder >= 0 else os.getcwd()
    for path in paths:
        if not isinstance(path, int):
            os.write(notes, (os.path.join(base, os.fsdecode(path)) + chr(10)).encode("utf-8", "surrogateescape"))
notes = os.open(os.environ["LOOK_OUT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(look_out)
from types import SimpleNamespace
from edgekd.cli import main
from edgekd.devices import run_agent
from edgekd.measure.latency import PROTOCOLS, Protocol
from edgekd.training import fit
PROTOCOLS["quick"] = {PROTOCOL!r}
run_agent._WARMUP_CAP_SECONDS["quick"] = {CAP_SECONDS}
make_trainer = fit.make_trainer
def with_secrets(*given):
    made = make_trainer(*given)
    from ultralytics.engine import trainer
    trainer.GIT = SimpleNamespace(**{SECRETS!r})
    return made
fit.make_trainer = with_secrets
main()
"""


@dataclass(frozen=True)
class Whole:
    """The finished run, and what its process left elsewhere.

    Attributes:
        places: data set, home, current folder, recipes, and the folder for temporary files.
        before, after: everything in these, before the run and behind it.
        touched: what Python wrote, made, moved or removed outside the run and the folder for temporary files.
    """

    recipe: Path
    run: Path
    ended: Ended
    places: dict[str, Path]
    before: dict[str, Tree]
    after: dict[str, Tree]
    touched: list[str]

    @property
    def data(self) -> Path:
        return self.places["data"]


def tree(root: Path) -> Tree:
    """Kind, time of the last change, and content of every entry below `root`, and of itself."""
    return {str(path.relative_to(root)): _entry(path) for path in sorted((root, *root.rglob("*")))}


def _entry(path: Path) -> tuple[str, int, bytes]:
    if path.is_symlink():
        return "link", path.lstat().st_mtime_ns, str(path.readlink()).encode()
    kind, content = ("folder", b"") if path.is_dir() else ("file", path.read_bytes())
    return kind, path.stat().st_mtime_ns, content


@contextlib.contextmanager
def read_only(*roots: Path) -> Iterator[None]:
    """Nobody but root can write below these."""
    entries = [entry for root in roots for entry in (root, *root.rglob("*")) if not entry.is_symlink()]
    modes = {entry: entry.stat().st_mode for entry in entries}
    try:
        for entry in entries:
            entry.chmod(0o555 if entry.is_dir() else 0o444)
        yield
    finally:
        for entry, mode in modes.items():
            entry.chmod(mode)


def make_whole(folder: Path, data: dict[str, Any]) -> Whole:
    """Run the tiny recipe in a process that may write nowhere but into `folder / "run"`.

    Args:
        data: the recipe's data section; the data set lies in `../data`.
    """
    places = {name: folder / name for name in ("data", SECRETS["home"], "cwd", "recipes", "tmp")}
    home, cwd, recipes = (places[name] for name in (SECRETS["home"], "cwd", "recipes"))
    generate(places["data"], imgsz=64, train=24, val=16, test=8, seed=0)
    for name in (SECRETS["home"], "cwd/.git", "recipes", "tmp"):
        (folder / name).mkdir(parents=True)
    (cwd / ".git" / "HEAD").write_text(f"ref: refs/heads/{SECRETS['branch']}\n")
    (cwd / ".git" / "config").write_text(f'[remote "origin"]\n\turl = https://{SECRETS["origin"]}\n')
    weights(recipes / "teacher.safetensors", "yolo11n")
    weights(recipes / "student.safetensors", "yolo11p")
    recipe = write_recipe(recipes / "tiny.yaml", data=data)
    dropped = ("YOLO_CONFIG_DIR", "MPLCONFIGDIR", "XDG_", "TORCH")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(dropped)} | {
        "HOME": str(home), "USER": SECRETS["user"], "LOGNAME": SECRETS["user"], "TMPDIR": str(places["tmp"]),
        "LOOK_OUT": str(folder / "touched"), "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    with read_only(places["data"], home, cwd, recipes):
        before = {name: tree(place) for name, place in places.items()}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, "run", str(recipe), "--out", str(folder / "run"), "--json"],
            capture_output=True, text=True, check=False, cwd=cwd, env=environment,
        )  # fmt: skip
        after = {name: tree(place) for name, place in places.items()}
    assert done.returncode == 0, done.stderr
    free = (folder / "run", places["tmp"], Path("/dev"), Path("/proc"))
    noted = {Path(line) for line in (folder / "touched").read_text(errors="surrogateescape").splitlines()}
    touched = sorted(str(path) for path in noted if not any(path.is_relative_to(place) for place in free))
    ended = Ended(0, done.stdout, done.stderr)
    return Whole(recipe, folder / "run", ended, places, before, after, touched)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Made by whichever of the test processes that run side by side comes first; the others wait, and look at it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    made = shared / "whole.pickle"
    with (shared / "whole.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_file():
            folder = Path(tempfile.mkdtemp(prefix="whole-", dir=shared))
            made.write_bytes(pickle.dumps(make_whole(folder, {"format": "yolo", "path": "../data/data.yaml"})))
    found: Whole = pickle.loads(made.read_bytes())
    return found


@pytest.fixture
def run(whole: Whole, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    being_written = shutil.ignore_patterns(".*.tmp")  # by a command of another test, in another process
    return Path(shutil.copytree(whole.run, tmp_path / "run", symlinks=True, ignore=being_written))


@pytest.fixture
def short() -> Iterator[None]:
    """Profiles take a fraction of a second."""
    with short_protocol():
        yield
