"""`edgekd bundle`: one archive to carry to a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekd.atomic import sha256_file
from edgekd.devices import bundle
from edgekd.errors import InputError, unknown
from edgekd.export.contract import SIDECAR_NAME
from edgekd.run_dir import RunDir
from edgekd.stages.subject import subject

_PACKAGES = {"litert": "ai-edge-litert", "tensorrt": "tensorrt"}  # others are called as the runtime is


def write_bundle(run: Path, target: str, out: Path | None) -> dict[str, Any]:
    """Write the archive of one exported target.

    Args:
        out: the ZIP file; default `RUN/bundles/TARGET.zip`.

    Raises:
        InputError: no such run, a target that is not exported, or an artifact whose files were changed.
    """
    RunDir.existing(run)
    exported = [path.parent.name for path in run.glob(f"export/*/{SIDECAR_NAME}")]
    if target not in exported:
        raise InputError(f"{run}: --target: {unknown('exported target', target, exported)}; export it first")
    found = subject(run / "export" / target, run)
    sidecar, path = found.artifact.sidecar, out or run / "bundles" / f"{target}.zip"
    facts = {
        "runtime": sidecar.runtime, "precision": sidecar.precision, "channels": str(sidecar.input_shape[1]),
        "packages": _PACKAGES.get(sidecar.runtime, sidecar.runtime),
    }  # fmt: skip
    sample = np.asarray(found.pack.arrays()[0])
    name, model = f"{run.resolve().name}-{target}", (*sidecar.files, SIDECAR_NAME)
    files = bundle.write(path, name, found.artifact.folder, model, sample, facts)
    return {"file": str(path), "sha256": sha256_file(path), "size_bytes": path.stat().st_size, "files": files}
