"""`manifest.json`: which stages were done, from what, and the hash of every file that they wrote.

A file that is no longer what its stage wrote gives an `InputError` (exit code 2), whether somebody edited it or a disk
or a copy cut it: half a table is a table, and half a recipe a recipe, so the two cannot be told apart, and the remedy
is the same. One that cannot be read at all is the machine's fault (exit code 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.atomic import read_json, sha256_file
from edgekd.errors import EnvironmentFault, InputError
from edgekd.plain import word

MANIFEST_SCHEMA = "edgekd.manifest/1"
MANIFEST = "manifest.json"
LOCKED_RECIPE = "recipe.lock.yaml"
RECIPE_HASHES = "recipe_sha256"
_ALONE = ("export", "validate", "profile", "gate", "report")  # stages with a command of their own


def read(path: Path) -> dict[str, Any] | None:
    """Content of a run directory's manifest; None where there is none, or another program's.

    Raises:
        InputError: damaged, or of another version of edgekd.
    """
    file = path / MANIFEST
    if not file.is_file():
        return None
    try:
        content = read_json(file)
    except ValueError as error:
        raise InputError(_damaged(file)) from error
    if not is_ours(content):
        return None
    complete = isinstance(content.get("stages"), dict) and {"recipe", "base"} <= set(content)
    if content["schema"] != MANIFEST_SCHEMA or not complete:
        raise InputError(f"{file}: of another version of edgekd; choose another --out, or --fresh to delete the run")
    if not all(_is_entry(entry) for entry in content["stages"].values()):
        raise InputError(_damaged(file))
    known: dict[str, Any] = content
    return known


def _damaged(file: Path) -> str:
    return f"{file}: damaged; choose another --out, or move this folder away"


def _is_entry(entry: Any) -> bool:
    """Whether a stage's entry says which files it wrote."""
    outputs = entry.get("outputs") if isinstance(entry, dict) else None
    return isinstance(outputs, dict) and all(isinstance(digest, str) for digest in outputs.values())


def is_ours(content: Any) -> bool:
    """Whether a `manifest.json` says that edgekd wrote it, in this version or another."""
    return isinstance(content, dict) and str(content.get("schema", "")).startswith("edgekd.manifest/")


class Written:
    """Hashes of the files that a run's stages wrote; empty where there is no manifest.

    Raises:
        InputError: the manifest is damaged.
    """

    def __init__(self, run: Path) -> None:
        self._run, manifest = run, read(run) or {"stages": {}}
        self._recipe: list[str] | None = manifest.get(RECIPE_HASHES)
        stages: Mapping[str, Any] = manifest["stages"]
        self._known = {
            name: (stage, digest) for stage, entry in stages.items() for name, digest in entry["outputs"].items()
        }

    def require(self, name: str, digest: str) -> None:
        """Refuse a file whose hash is another than the one it was written with; of other files nothing is known.

        Args:
            name: below the run directory.
            digest: its SHA-256 now.

        Raises:
            InputError: edited, cut or damaged since it was written.
        """
        if name == LOCKED_RECIPE and self._recipe is not None and digest not in self._recipe:
            raise InputError(_other_recipe(self._run))
        stage, expected = self._known.get(name, ("", digest))
        if digest != expected:
            raise InputError(_other_file(self._run, name, stage))


def faults(run: Path, manifest: Mapping[str, Any], stage: str) -> list[str]:
    """What is wrong with the files of a finished stage, one line each, for an `InputError`.

    Raises:
        EnvironmentFault: a file cannot be read.
    """
    found = []
    for name, digest in manifest["stages"][stage]["outputs"].items():
        if not (run / name).is_file():
            found.append(f"{run / name}: is gone since stage '{stage}' wrote it; {remedy(run, stage)}")
        elif hash_of(run / name) != digest:
            found.append(_other_file(run, name, stage))
    return found


def require_recipe(run: Path) -> None:
    """Refuse a locked recipe that is not the one that edgekd wrote.

    Raises:
        InputError: gone, edited or cut.
        EnvironmentFault: it cannot be read.
    """
    file = run / LOCKED_RECIPE
    if not file.is_file():
        raise InputError(
            f"{file}: is not there; run 'edgekd run RECIPE --out {word(run)}' again, which keeps what is done"
        )
    Written(run).require(LOCKED_RECIPE, hash_of(file))


def remedy(run: Path, stage: str) -> str:
    """The command that does a stage again."""
    kind = stage.partition("/")[0]
    command = f"edgekd {kind} {word(run)}" if kind in _ALONE else f"edgekd run RECIPE --out {word(run)}"
    return f"run '{command}' again"


def _other_file(run: Path, name: str, stage: str) -> str:
    return f"{run / name}: is not what stage '{stage}' wrote (edited, cut or damaged since); {remedy(run, stage)}"


def _other_recipe(run: Path) -> str:
    return (
        f"{run / LOCKED_RECIPE}: is not what edgekd wrote (edited, cut or damaged since); run 'edgekd run RECIPE --out "
        f"{run}' again, which keeps what is done, and give changes by --set"
    )


def hash_of(file: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        EnvironmentFault: it cannot be read.
    """
    try:
        return sha256_file(file)
    except OSError as error:
        raise EnvironmentFault(
            f"{file}: cannot be read ({error.strerror}); mend the disk or the permissions"
        ) from error
