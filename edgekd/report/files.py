"""Reads the files of a run directory and remembers the hash of every file that it read."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

from edgekd.atomic import sha256_file
from edgekd.errors import InputError
from edgekd.run_dir import Written


class RunFiles:
    """The files of one run. A file that is not there reads as None: the stage that writes it was not run.

    One that is not what its stage wrote is refused, whichever method reads it: `InputError`.

    Attributes:
        run: the run directory.
        hashes: relative path -> sha256 of every file that was read.
    """

    def __init__(self, run: Path) -> None:
        self.run = Path(run)
        self.hashes: dict[str, str] = {}
        self._written = Written(self.run)

    def names(self, pattern: str) -> list[str]:
        """Relative paths of the files that match a glob pattern, sorted; temporary (dot) files are left out."""
        found = (path for path in self.run.glob(pattern) if path.is_file() and not path.name.startswith("."))
        return sorted(path.relative_to(self.run).as_posix() for path in found)

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON object.

        Raises:
            InputError: the file is not a JSON object, or holds a NaN or an infinity.
        """
        text = self._text(name)
        if text is None:
            return None
        try:
            content = json.loads(text, parse_constant=_refuse_constant)
        except ValueError as error:
            raise self._broken(name, f"is not valid JSON ({error})") from error
        if not isinstance(content, dict):
            raise self._broken(name, f"holds a {type(content).__name__}, not an object")
        return content

    def yaml(self, name: str) -> dict[str, Any] | None:
        """A YAML mapping.

        Raises:
            InputError: the file is not a YAML mapping.
        """
        from yaml import YAMLError

        from edgekd.recipe.yaml_text import parse, reason

        text = self._text(name)
        if text is None:
            return None
        try:
            content = parse(text)
        except YAMLError as error:
            raise self._broken(name, f"is not valid YAML ({reason(error)})") from error
        if not isinstance(content, dict):
            raise self._broken(name, f"holds a {type(content).__name__}, not a mapping")
        return content

    def csv(self, name: str) -> list[dict[str, str]]:
        """Rows of a CSV file with a header; empty where there is no file."""
        return list(csv.DictReader(io.StringIO(self._text(name) or ""), skipinitialspace=True))

    def sha256(self, name: str) -> str | None:
        """Hash of a file that is not read itself, a model for instance."""
        path = self.run / name
        if not path.is_file():
            return None
        return self._note(name, sha256_file(path))

    def _text(self, name: str) -> str | None:
        path = self.run / name
        if not path.is_file():
            return None
        content = path.read_bytes()
        self._note(name, hashlib.sha256(content).hexdigest())
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._broken(name, "is not UTF-8 text") from error

    def _note(self, name: str, digest: str) -> str:
        self._written.require(name, digest)
        self.hashes[name] = digest
        return digest

    def _broken(self, name: str, what: str) -> InputError:
        return InputError(f"{self.run / name}: {what}; delete it and run the stage that writes it again")


def number(text: str | None) -> float | None:
    """A finite number from a CSV cell; None where the cell is empty, no number, or not finite."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no measurement")
