"""The run directory: one manifest, stages that are done once, and a refusal to mix two recipes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd import __version__
from edgekd.atomic import disk_faults, read_json, sha256_file, sha256_json, write_json, write_text
from edgekd.errors import EnvironmentFault, InputError
from edgekd.progress import say

MANIFEST_SCHEMA = "edgekd.manifest/1"
LOCKED_RECIPE = "recipe.lock.yaml"


@dataclass
class RunDir:
    """A run directory that this process holds.

    Attributes:
        path: the directory.
        manifest: content of `manifest.json`.
    """

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path, recipe_name: str, base: Path, locked_recipe: str, fresh: bool = False) -> RunDir:
        """Create the directory, or go on in one of the same recipe.

        A recipe that changed under the same name is welcome: only the stages it touches are done again.

        Args:
            base: the recipe's folder, against which its relative paths are looked up.

        Raises:
            InputError: the directory belongs to another recipe, or holds other files, and `fresh` is False.
            EnvironmentFault: not writable, or another process works in it.
        """
        manifest_path = path / "manifest.json"
        if fresh and path.exists():
            _require_run(path)
            shutil.rmtree(path)
        manifest: dict[str, Any] = {
            "schema": MANIFEST_SCHEMA, "recipe": recipe_name, "base": str(base.resolve()), "edgekd": __version__, "stages": {},
        }  # fmt: skip
        if manifest_path.is_file():
            found = _read_manifest(manifest_path)
            if found["recipe"] != recipe_name:
                raise InputError(
                    f"--out {path}: holds a run of recipe '{found['recipe']}', not '{recipe_name}'; "
                    f"choose another --out, or --fresh to delete it"
                )
            manifest = found
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"--out {path}: exists and is no edgekd run; choose an empty or new directory")
        with disk_faults(path):
            path.mkdir(parents=True, exist_ok=True)
        run = cls(path, manifest)
        write_json(manifest_path, manifest)
        write_text(path / LOCKED_RECIPE, locked_recipe)
        return run

    @classmethod
    def existing(cls, path: Path) -> RunDir:
        """A run directory that was made before.

        Raises:
            InputError: there is none.
        """
        manifest_path = path / "manifest.json"
        if not manifest_path.is_file():
            raise InputError(f"{path}: no run directory (no manifest.json); make one with 'edgekd run RECIPE --out {path}'")
        return cls(path, _read_manifest(manifest_path))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process; the lock goes with the process, however it ends."""
        import fcntl

        with disk_faults(self.path), (self.path / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EnvironmentFault(f"{self.path}: another edgekd process works in it; wait for it, or choose another --out") from error
            yield

    def stage(self, name: str, inputs: Mapping[str, Any], outputs: list[str], action: Callable[[], None]) -> bool:
        """Do a stage unless it was done with the same inputs and its outputs are still whole.

        Args:
            name: key in the manifest, e.g. `distill`.
            inputs: everything the stage depends on, as JSON values: recipe part, upstream hashes, code version.
            outputs: files below the run directory that the stage writes; hashed into the manifest.
            action: does the work.

        Returns:
            True if the work was done now, False if it was there already.
        """
        inputs_hash = sha256_json(dict(inputs))
        if self._is_done(name, inputs_hash):
            say(f"{name}: unchanged, kept")
            return False
        self.manifest["stages"].pop(name, None)
        self._save()
        started = time.time()
        action()
        self.manifest["stages"][name] = {
            "status": "done",
            "inputs_sha256": inputs_hash,
            "outputs": {output: sha256_file(self.path / output) for output in outputs},
            "seconds": round(time.time() - started, 1),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self._save()
        return True

    def output_hash(self, stage: str, output: str) -> str:
        """Hash of a finished stage's file, for the inputs of the stages behind it.

        Raises:
            InputError: the stage has not been done.
        """
        entry = self.manifest["stages"].get(stage)
        if entry is None:
            raise InputError(f"{self.path}: stage '{stage}' has not been done; run 'edgekd {_COMMANDS.get(stage, 'run')}' first")
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
        write_json(self.path / "manifest.json", self.manifest)


_COMMANDS = {"teacher": "distill", "student": "distill", "baseline": "distill"}


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = read_json(path)
        assert content["schema"] == MANIFEST_SCHEMA
        assert isinstance(content["stages"], dict)
    except (ValueError, KeyError, AssertionError, TypeError) as error:
        raise InputError(f"{path}: damaged, or of another version of edgekd; choose another --out, or --fresh") from error
    return content


def _require_run(path: Path) -> None:
    """`--fresh` deletes run directories only, never a folder that merely has the name."""
    if not path.is_dir() or (any(path.iterdir()) and not (path / "manifest.json").is_file()):
        raise InputError(f"--out {path}: --fresh deletes run directories only, and this is none; choose another --out")
    if os.path.samefile(path, Path.cwd()):
        raise InputError(f"--out {path}: is the current folder; change to another before --fresh")
