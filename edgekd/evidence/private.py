"""What leaves the machine: no name of host or user, no path, no address."""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# A path from the root, of Windows too, keeps its last name alone.
_NAME = r"[^\s/:'\"`,;()\[\]{}<>|=]+"
_PATH = re.compile(
    rf"(?<![\w./<-])(?:file://|[A-Za-z]:)?(?:/(?:{_NAME}/)+({_NAME})?|/(?:root|home|Users|tmp|mnt|media|srv|work)\b)"
)
_HOME = re.compile(r"(?<![\w/])~/\S*")
_ADDRESS = re.compile(
    r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b|\b[\w.-]+@[\w-]+(?:\.[\w-]+)+\b|\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b"
)
_VERSION = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")  # of a library or a driver, where its key says so
_SHORTEST = 3  # of a name that is looked for: shorter ones stand in too many words


def names_here() -> tuple[str, ...]:
    """Names of this machine and its user, and of the user's home."""
    found = {socket.gethostname(), socket.gethostname().partition(".")[0], Path.home().name}
    with suppress(KeyError, OSError):  # no such user on this machine
        found.add(getpass.getuser())
    usual = {"root", "user", "local", "localhost", "home", "linux", "ubuntu", "debian", "jetson", "raspberrypi"}
    return tuple(sorted(name for name in found if len(name) >= _SHORTEST and name.lower() not in usual))


def neutral(content: Any, names: tuple[str, ...], key: str = "") -> Any:
    """The same value without names, paths and addresses in any text of it, keys of mappings included."""
    if isinstance(content, dict):
        return {_text(str(name), names): neutral(value, names, str(name)) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [neutral(value, names, key) for value in content]
    return _text(content, names, is_version=_says_version(key)) if isinstance(content, str) else content


def betrayed(content: Any, key: str = "") -> Iterator[str]:
    """Texts that hold a path or an address."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from betrayed(str(name))
            yield from betrayed(value, str(name))
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from betrayed(value, key)
    elif isinstance(content, str) and _text(content, (), is_version=_says_version(key)) != content:
        yield content


def _says_version(key: str) -> bool:
    """TensorRT's and drivers' versions have four numbers, as addresses do."""
    return "version" in key or key in ("by", "tensorrt", "driver", "release", "program")


def _text(text: str, names: tuple[str, ...], is_version: bool = False) -> str:
    text = _HOME.sub("<home>", text)
    text = _PATH.sub(lambda found: f".../{found[1]}" if found[1] else "...", text)
    if not (is_version and _VERSION.fullmatch(text)):
        text = _ADDRESS.sub("<address>", text)
    for name in names:
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", "<name>", text)
    return text
