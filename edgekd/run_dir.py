"""The run directory: one manifest, stages that are done once, and a refusal to mix two recipes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgekd import __version__, ranks
from edgekd.atomic import disk_faults, read_json, remove_leftovers, sha256_file, sha256_json, write_json, write_text
from edgekd.errors import EnvironmentFault, InputError
from edgekd.former_runs import take_over
from edgekd.progress import say
from edgekd.ranks import agreement

MANIFEST_SCHEMA = "edgekd.manifest/1"
MANIFEST = "manifest.json"
LOCKED_RECIPE = "recipe.lock.yaml"
_LOCK = ".lock"
_TOOLS = ("torch", "ultralytics", "onnx", "onnxruntime", "openvino", "numpy")


@dataclass
class RunDir:
    """A run directory.

    Attributes:
        path: the directory.
        manifest: content of `manifest.json`.
    """

    path: Path
    manifest: dict[str, Any]

    @classmethod
    @contextmanager
    def held(
        cls,
        path: Path,
        recipe_name: str,
        base: Path,
        locked_recipe: str,
        *,
        fresh: bool = False,
        command: str | None = None,
    ) -> Iterator[RunDir]:
        """Create the directory, or go on in one of the same recipe, and keep other processes out of it meanwhile.

        A recipe that changed under the same name is welcome: only the stages it touches are done again. Processes that
        train together enter together; rank 0 writes.

        Args:
            path: the directory.
            recipe_name: whose run it is.
            base: the recipe's folder, against which its relative paths are looked up.
            locked_recipe: the recipe with every default filled in, as YAML.
            fresh: delete what is there first.
            command: the command line that makes this run, for the report; None leaves what is there.

        Raises:
            InputError: the directory belongs to another recipe, or holds other files, and `fresh` is False; ranks have
                different recipes.
            EnvironmentFault: not writable, another process works in it, or a rank does not see it.
        """
        facts = {"recipe": recipe_name, "base": str(base.resolve()), "edgekd": __version__}
        if command is not None:
            facts["command"] = command
        with ExitStack() as stack:
            manifest = ranks.on_main(lambda: stack.enter_context(_taken(path, facts, locked_recipe, fresh)))
            agreement.require_shared(path, locked_recipe)
            yield cls(path, manifest)

    @classmethod
    def existing(cls, path: Path) -> RunDir:
        """A run directory that was made before, to look at; `held` is needed to work in it.

        Raises:
            InputError: there is none.
        """
        manifest = _read_manifest(path)
        if path.is_file():
            raise InputError(f"{path}: is a file, not a run directory; make one with 'edgekd run RECIPE --out RUN'")
        if manifest is None:
            raise InputError(
                f"{path}: no run directory (no {MANIFEST}); make one with 'edgekd run RECIPE --out {path}'"
            )
        return cls(path, manifest)

    def stage(
        self, name: str, inputs: Mapping[str, Any], action: Callable[[], Sequence[str]], *, together: bool = False
    ) -> bool:
        """Do a stage unless it was done with the same inputs and its outputs are still whole.

        Args:
            name: key in the manifest, e.g. `export/onnx-fp32`.
            inputs: everything the stage depends on, as JSON values: recipe part, upstream hashes, code version.
            action: does the work and names the files that it wrote, below the run directory.
            together: all ranks are here and take part in the work; without it, rank 0 alone is.

        Returns:
            True if the work was done now, False if it was there already.

        Raises:
            InputError: ranks have different inputs, such as weights of one name on machines of their own.
        """
        inputs_hash = sha256_json(dict(inputs))
        if together:
            agreement.require_same(name, inputs_hash)
        done = self._is_done(name, inputs_hash) if ranks.is_main() else False
        if ranks.broadcast(done) if together else done:
            say(f"{name}: unchanged, kept")
            return False
        self.manifest["stages"].pop(name, None)
        self._save()
        started = time.monotonic()
        outputs = action()
        if ranks.is_main():
            self.manifest["stages"][name] = {
                "status": "done",
                "inputs_sha256": inputs_hash,
                "outputs": {output: sha256_file(self.path / output) for output in outputs},
                "versions": _versions(),
                "seconds": round(time.monotonic() - started, 1),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            self._save()
        if together:
            self.manifest = ranks.broadcast(self.manifest)
        return True

    def forget(self, name: str) -> None:
        """Do a stage again, whatever its inputs."""
        if self.manifest["stages"].pop(name, None) is not None:
            self._save()

    def output_hash(self, stage: str, output: str) -> str:
        """Hash of a finished stage's file, for the inputs of the stages behind it.

        Raises:
            InputError: the stage has not been done.
        """
        entry = self.manifest["stages"].get(stage)
        if entry is None:
            command = f"edgekd export {self.path}" if stage.startswith("export/") else "edgekd run"
            raise InputError(f"{self.path}: stage '{stage}' has not been done; run '{command}' first")
        return str(entry["outputs"][output])

    def _is_done(self, name: str, inputs_hash: str) -> bool:
        entry = self.manifest["stages"].get(name)
        if entry is None or entry["status"] != "done" or entry["inputs_sha256"] != inputs_hash:
            return False
        return all(
            (self.path / output).is_file() and sha256_file(self.path / output) == digest
            for output, digest in entry["outputs"].items()
        )

    def _save(self) -> None:
        if ranks.is_main():
            write_json(self.path / MANIFEST, self.manifest)


@contextmanager
def _taken(path: Path, facts: Mapping[str, str], locked_recipe: str, fresh: bool) -> Iterator[dict[str, Any]]:
    """Take the directory: made, locked, with manifest and locked recipe written; yields the manifest."""
    _require_ours(path, facts["recipe"], fresh)
    with disk_faults(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (NotADirectoryError, FileExistsError):
            raise InputError(f"--out {path}: part of this path is a file; choose another --out") from None
    with _lock(path):
        if fresh:
            _empty(path)
        remove_leftovers(path)
        manifest = _read_manifest(path) or {"schema": MANIFEST_SCHEMA, "stages": {}}
        manifest = {**take_over(path, MANIFEST, manifest), **facts}
        write_json(path / MANIFEST, manifest)
        write_text(path / LOCKED_RECIPE, locked_recipe)
        yield manifest


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the directory for this process; the lock goes with the process, however it ends."""
    import fcntl

    with disk_faults(path):
        stream = (path / _LOCK).open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EnvironmentFault(
                f"{path}: another edgekd process works in it; wait for it, or choose another --out"
            ) from error
        yield


def _require_ours(path: Path, recipe_name: str, fresh: bool) -> None:
    """Refuse a folder that is no run directory, the more so if it is to be deleted, and the run of another recipe."""
    if fresh and path.is_dir() and path.samefile(Path.cwd()):
        raise InputError(f"--out {path}: is the current folder; change to another before --fresh")
    if fresh and (path / MANIFEST).is_file():
        return
    manifest = _read_manifest(path)
    if manifest is None:
        if path.exists() and (not path.is_dir() or not all(_is_leftover(entry) for entry in path.iterdir())):
            what = "--fresh deletes run directories only, and this is none" if fresh else "exists and is no edgekd run"
            raise InputError(f"--out {path}: {what}; choose an empty or new directory")
    elif manifest["recipe"] != recipe_name:
        raise InputError(
            f"--out {path}: holds a run of recipe '{manifest['recipe']}', not '{recipe_name}'; "
            f"choose another --out, or --fresh to delete it"
        )


def _is_leftover(entry: Path) -> bool:
    """Whether a process that was killed in its first moment may have left it: the lock, or a manifest half written."""
    return entry.name == _LOCK or (entry.name.startswith(f".{MANIFEST}.") and entry.name.endswith(".tmp"))


def _empty(path: Path) -> None:
    """Delete everything but the lock; the manifest last, since it says that this may be deleted."""
    with disk_faults(path):
        for entry in sorted(path.iterdir(), key=lambda entry: entry.name == MANIFEST):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """Content of the manifest; None if there is none."""
    file = path / MANIFEST
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = read_json(file)
        sound = content["schema"] == MANIFEST_SCHEMA and isinstance(content["stages"], dict)
        sound = sound and {"recipe", "base"} <= set(content)
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise InputError(f"{file}: damaged, or of another version of edgekd; choose another --out, or --fresh")
    return content


def _versions() -> dict[str, str]:
    """Versions of what decides figures and files."""
    found = {"edgekd": __version__}
    for tool in _TOOLS:
        try:
            found[tool] = version(tool)
        except PackageNotFoundError:
            continue
    return found
