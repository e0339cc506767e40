"""Builds the agent as one file that any Python runs: the same sources always give the same bytes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import edgekd.agent
from edgekd.atomic import write_bytes

_PACKAGE = "edgekd_agent"
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
_INTERPRETER = b"#!/usr/bin/env python3\n"
_START = f'''# SPDX-License-Identifier: Apache-2.0
"""Starts the agent."""

import sys

from {_PACKAGE}.__main__ import main

sys.exit(main())
'''


def build(folder: Path) -> Path:
    """Write `edgekd-agent-<first 12 of its sha256>.pyz` into `folder`, unless it is there already; returns its path."""
    content = _INTERPRETER + _zipped()
    path = Path(folder) / f"edgekd-agent-{hashlib.sha256(content).hexdigest()[:12]}.pyz"
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)
    return path


def _zipped() -> bytes:
    # Stored, not deflated: compressed bytes depend on the version of zlib.
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for name, content in _members():
            archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), content)
    return memory.getvalue()


def _members() -> Iterator[tuple[str, str]]:
    root = Path(edgekd.agent.__file__).parent
    yield "__main__.py", _START
    for path in sorted([*root.rglob("*.py"), root / "LICENSE", root / "NOTICE"]):
        yield f"{_PACKAGE}/{path.relative_to(root).as_posix()}", path.read_text(encoding="utf-8")
