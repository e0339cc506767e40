"""How a converter gets its work and hands it back: `job.json` in, `result.json` out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any


def run(convert: Callable[[dict[str, Any], Path], dict[str, Any]]) -> None:
    """Call `convert(job, folder)` and write down what it returns.

    What it does not support it raises as NotImplementedError, as the libraries do; it is the user's to mend.
    """
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(job["folder"])
    try:
        result = convert(job, folder)
    except NotImplementedError as error:
        result = {"unsupported": str(error)}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def versions(*packages: str) -> dict[str, str]:
    """Of packages of this environment."""
    return {package: version(package) for package in packages}
