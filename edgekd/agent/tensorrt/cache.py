# SPDX-License-Identifier: Apache-2.0
"""Engines that were built on this device, each under a key of all that it is bound to.

The folder is `$EDGEKD_CACHE/engines`, else `~/.cache/edgekd/engines`. An entry is `<key>.plan` and `<key>.json`, which
says what it was built from. Files appear whole or not at all; what was changed since is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

from ..cuda import Gpu
from ..protocol import AgentError
from .recipe import Recipe

_KEY_DIGITS = 32


class Entry(NamedTuple):
    """An engine of the cache and the record beside it."""

    plan: bytes
    record: Dict[str, Any]


def folder() -> Path:
    """Where engines are kept; it is made if it is not there.

    Raises:
        AgentError: nothing can be written there. Better now than after a build of ten minutes.
    """
    root = os.environ.get("EDGEKD_CACHE")
    found = Path(root) / "engines" if root else Path.home() / ".cache/edgekd/engines"
    try:
        found.mkdir(parents=True, exist_ok=True)
        probe = found / f".{os.getpid()}.probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise AgentError(
            "runtime",
            f"{found}: engines cannot be kept there ({error.strerror}); set EDGEKD_CACHE to a folder that can be"
            " written",
        ) from error
    return found


def bound_to(
    onnx_sha256: str, recipe: Recipe, version: str, gpu: Gpu, l4t: Optional[str], power_mode: Optional[str]
) -> Dict[str, Any]:
    """Everything that an engine depends on; equal means interchangeable.

    A plan is bound to model, flags, version and GPU. The power mode is part of it since tactics are chosen by timing
    them.
    """
    return {
        "onnx_sha256": onnx_sha256,
        "recipe": recipe._asdict(),
        "tensorrt": version,
        "gpu": gpu.name,
        "sm_count": gpu.sm_count,
        "compute_capability": gpu.compute_capability,
        "l4t": l4t,
        "power_mode": power_mode,
    }


def key_of(bound: Dict[str, Any]) -> str:
    """Name of an engine in the cache."""
    return hashlib.sha256(_encode(bound)).hexdigest()[:_KEY_DIGITS]


def load(place: Path, key: str) -> Optional[Entry]:
    """The engine of a key; None if there is none, or if it is not what was written."""
    try:
        record = json.loads((place / f"{key}.json").read_text(encoding="utf-8"))
        plan = (place / f"{key}.plan").read_bytes()
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("plan_sha256") != hashlib.sha256(plan).hexdigest():
        return None
    return Entry(plan, record)


def save(place: Path, key: str, plan: bytes, record: Dict[str, Any]) -> Dict[str, Any]:
    """Keep an engine; returns the record as written."""
    written = {**record, "plan_sha256": hashlib.sha256(plan).hexdigest()}
    _write(place / f"{key}.plan", plan)
    _write(place / f"{key}.json", _encode(written))
    return written


def timing_cache_path(place: Path, version: str, gpu: Gpu) -> Path:
    """Where measured tactics are kept, shared by all engines of one version and GPU."""
    kind = hashlib.sha256(f"{gpu.name} {gpu.sm_count} {gpu.compute_capability}".encode()).hexdigest()[:8]
    return place / f"timings-{version}-{kind}.cache"


def read_timings(path: Path) -> Optional[bytes]:
    """The timing cache, if there is one."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def write_timings(path: Path, content: bytes) -> None:
    """Keep a timing cache."""
    _write(path, content)


def _encode(value: Dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode("utf-8")


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise AgentError(
            "runtime", f"{path}: cannot be written ({error.strerror}); make room, or set EDGEKD_CACHE"
        ) from error
    finally:
        if temporary.exists():
            temporary.unlink()
