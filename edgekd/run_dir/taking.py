"""Taking a run directory: whose it is, that no other process works in it, and how it begins anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekd.atomic import disk_faults, make_folder, read_json, remove_leftovers, write_json
from edgekd.errors import EnvironmentFault, InputError
from edgekd.former_runs import take_over
from edgekd.progress import say
from edgekd.run_dir import manifest as manifests
from edgekd.run_dir.layout import LOCK, empty
from edgekd.run_dir.manifest import MANIFEST, MANIFEST_SCHEMA

_NAMED = 5  # of the files that `--fresh` leaves


@contextmanager
def taken(path: Path, facts: Mapping[str, str], fresh: bool) -> Iterator[dict[str, Any]]:
    """Take the directory, made if need be, and locked; yields the manifest.

    A new one gets its manifest at once: who is killed now finds a run directory. One that was there keeps its own until
    the recipe is accepted.
    """
    _require_ours(path, facts["recipe"], fresh)
    make_folder(path, "--out")
    with _lock(path):
        if fresh:
            _say_kept(path, empty(path))
        remove_leftovers(path)
        manifest = None if fresh else manifests.read(path)
        if manifest is None:
            manifest = {"schema": MANIFEST_SCHEMA, "stages": {}, **facts}
            write_json(path / MANIFEST, manifest)
        yield take_over(path, MANIFEST, manifest)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the directory for this process; the lock goes with the process, however it ends."""
    import fcntl

    with disk_faults(path):
        stream = (path / LOCK).open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EnvironmentFault(
                f"{path}: another edgekd process works in it; wait for it, or choose another --out"
            ) from error
        yield


def _require_ours(path: Path, recipe_name: str, fresh: bool) -> None:
    """Refuse a folder that is no run directory, the more so if it is to be emptied, and the run of another recipe."""
    if fresh and path.is_dir() and path.samefile(Path.cwd()):
        raise InputError(f"--out {path}: is the current folder; change to another before --fresh")
    if fresh and _says_edgekd(path / MANIFEST):
        return
    manifest = manifests.read(path)
    if manifest is None:
        if path.exists() and (not path.is_dir() or not all(_is_leftover(entry) for entry in path.iterdir())):
            what = "--fresh empties run directories only, and this is none" if fresh else "exists and is no edgekd run"
            raise InputError(f"--out {path}: {what}; choose an empty or new directory")
    elif manifest["recipe"] != recipe_name:
        raise InputError(
            f"--out {path}: holds a run of recipe '{manifest['recipe']}', not '{recipe_name}'; "
            f"choose another --out, or --fresh to delete it"
        )


def _says_edgekd(file: Path) -> bool:
    """Whether a manifest proves that edgekd made the folder. Another program's, or one cut in half, proves nothing."""
    try:
        return file.is_file() and manifests.is_ours(read_json(file))
    except ValueError:
        return False


def _is_leftover(entry: Path) -> bool:
    """Whether a process that was killed in its first moment may have left it: the lock, or a manifest half written."""
    return entry.name == LOCK or (entry.name.startswith(f".{MANIFEST}.") and entry.name.endswith(".tmp"))


def _say_kept(path: Path, kept: list[str]) -> None:
    if kept:
        more = f" and {len(kept) - _NAMED} more" if len(kept) > _NAMED else ""
        say(f"--fresh: {path}: left alone what edgekd did not write: {', '.join(kept[:_NAMED])}{more}")
