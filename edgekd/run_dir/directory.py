"""A run directory: taken by one process, its stages done once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgekd import __version__, ranks
from edgekd.atomic import sha256_file, sha256_json, write_json, write_text
from edgekd.errors import InputError
from edgekd.plain import word
from edgekd.progress import Event, say, tell
from edgekd.ranks import agreement
from edgekd.run_dir import manifest as manifests
from edgekd.run_dir.manifest import LOCKED_RECIPE, MANIFEST, RECIPE_HASHES
from edgekd.run_dir.taking import taken

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
    _facts: Mapping[str, str] = field(default_factory=dict)
    _locked_recipe: str = ""

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

        A recipe that changed under the same name is welcome: only the stages it touches are done again. It is written
        down by `accept`, once whoever holds the directory has found it good. Processes that train together enter
        together; rank 0 writes.

        Args:
            path: the directory.
            recipe_name: whose run it is.
            base: the recipe's folder, against which its relative paths are looked up.
            locked_recipe: the recipe with every default filled in, as YAML.
            fresh: delete what edgekd wrote there first.
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
            manifest = ranks.on_main(lambda: stack.enter_context(taken(path, facts, fresh)))
            agreement.require_shared(path, locked_recipe)
            yield cls(path, manifest, facts, locked_recipe)

    @classmethod
    def existing(cls, path: Path) -> RunDir:
        """A run directory that was made before, to look at; `held` is needed to work in it.

        Raises:
            InputError: there is none.
        """
        manifest = manifests.read(path)
        if path.is_file():
            raise InputError(f"{path}: is a file, not a run directory; make one with 'edgekd run RECIPE --out RUN'")
        if manifest is None:
            raise InputError(
                f"{path}: no run directory (no {MANIFEST} of edgekd); make one with "
                f"'edgekd run RECIPE --out {word(path)}'"
            )
        return cls(path, manifest)

    def accept(self) -> None:
        """Write down the recipe that this directory is held for: what it asks for was checked, or done.

        The manifest names the hash of the recipe before, too, until the new one is there: a kill in between leaves
        one that is known.
        """
        new = hashlib.sha256(self._locked_recipe.encode("utf-8")).hexdigest()
        before = [digest for digest in self.manifest.get(RECIPE_HASHES, ()) if digest != new]
        self.manifest |= {**self._facts, RECIPE_HASHES: [new, *before]}
        self._save()
        if ranks.is_main():
            write_text(self.path / LOCKED_RECIPE, self._locked_recipe)
        if before:
            self.manifest[RECIPE_HASHES] = [new]
            self._save()

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
            tell(Event("stage", name, "kept"))
            return False
        self.manifest["stages"].pop(name, None)
        self._save()
        tell(Event("stage", name, "begins"))
        started = time.monotonic()
        outputs = action()
        if ranks.is_main():
            self.manifest["stages"][name] = {
                "status": "done",
                "inputs_sha256": inputs_hash,
                "code": inputs.get("code"),
                "outputs": {output: sha256_file(self.path / output) for output in outputs},
                "versions": _versions(),
                "seconds": round(time.monotonic() - started, 1),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            self._save()
        if together:
            self.manifest = ranks.broadcast(self.manifest)
        tell(Event("stage", name, "ends"))
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
            command = f"edgekd export {word(self.path)}" if stage.startswith("export/") else "edgekd run"
            raise InputError(f"{self.path}: stage '{stage}' has not been done; run '{command}' first")
        return str(entry["outputs"][output])

    def is_intact(self, stage: str) -> bool:
        """Whether a stage was done, and its files are what it wrote."""
        return stage in self.manifest["stages"] and not manifests.faults(self.path, self.manifest, stage)

    def require_intact(self, stages: Iterable[str]) -> None:
        """Refuse to go by files that are not what these finished stages wrote.

        Raises:
            InputError: edited, cut or gone since, one line per file.
            EnvironmentFault: a file cannot be read.
        """
        if problems := [line for stage in stages for line in manifests.faults(self.path, self.manifest, stage)]:
            raise InputError(*problems)

    def is_of(self, stage: str, inputs: Mapping[str, Any]) -> bool:
        """Whether a finished stage was done from these inputs, whichever version of edgekd did it.

        Args:
            inputs: with `edgekd` and `code`, as every stage of a run has them.
        """
        entry = self.manifest["stages"][stage]
        then = {"edgekd": entry["versions"]["edgekd"], "code": entry.get("code", inputs["code"])}
        return bool(entry["inputs_sha256"] == sha256_json({**inputs, **then}))

    def _is_done(self, name: str, inputs_hash: str) -> bool:
        entry = self.manifest["stages"].get(name)
        if entry is None or entry["status"] != "done" or entry["inputs_sha256"] != inputs_hash:
            return False
        return not manifests.faults(self.path, self.manifest, name)

    def _save(self) -> None:
        if ranks.is_main():
            write_json(self.path / MANIFEST, self.manifest)


def _versions() -> dict[str, str]:
    """Versions of what decides figures and files."""
    found = {"edgekd": __version__}
    for tool in _TOOLS:
        try:
            found[tool] = version(tool)
        except PackageNotFoundError:
            continue
    return found
