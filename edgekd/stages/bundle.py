"""`edgekd bundle`: one archive to carry to a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekd.agent.runtimes import runtime_names
from edgekd.atomic import sha256_file
from edgekd.devices import bundle
from edgekd.errors import InputError, unknown
from edgekd.export.contract import SIDECAR_NAME
from edgekd.run_dir import RunDir
from edgekd.stages.compared_artifact import subject


def write_bundle(run: Path, target: str, out: Path | None) -> dict[str, Any]:
    """Write the archive of one exported target.

    Args:
        out: the ZIP file; default `RUN/bundles/TARGET.zip`.

    Raises:
        InputError: no such run, a target that is not exported, an artifact whose files were changed, or one that the
            agent cannot run; there is another file at `out`.
    """
    if out is not None and out.exists() and not bundle.is_bundle(out):
        raise InputError(f"--out: {out}: is there already, and no bundle of edgekd; name another file, or remove it")
    RunDir.existing(run)
    exported = [path.parent.name for path in run.glob(f"export/*/{SIDECAR_NAME}")]
    if target not in exported:
        raise InputError(f"{run}: --target: {unknown('exported target', target, exported)}; export it first")
    found = subject(run / "export" / target, run)
    runtime = found.artifact.sidecar.runtime
    if runtime not in runtime_names():
        raise InputError(
            f"{run}: --target: the agent has no runtime for {runtime}, so a bundle of {target} could not run; copy "
            f"{run / 'export' / target} into the application, its edgekd.json explains the model"
        )
    sidecar, path = found.artifact.sidecar, out or run / "bundles" / f"{target}.zip"
    facts = {"runtime": sidecar.runtime, "precision": sidecar.precision, "channels": str(sidecar.input_shape[1])}
    sample = np.asarray(found.pack.arrays()[0])
    name, model = f"{run.resolve().name}-{target}", (*sidecar.files, SIDECAR_NAME)
    files = bundle.write(path, name, found.artifact.folder, model, sample, facts)
    return {"file": str(path), "sha256": sha256_file(path), "size_bytes": path.stat().st_size, "files": files}
