"""Run directories of earlier versions: what has another name today is renamed, and nothing is done again for that.

The control was called `baseline`: a stage, a folder, and two files of `validate/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekd.atomic import disk_faults, read_json, sha256_file, write_bytes, write_json

_OLD, _NEW = "baseline", "control"
_ACCURACY, _DETECTIONS = "validate/{}@host.json", "validate/{}@host.detections.jsonl"


def take_over(run: Path, manifest_file: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Rename what a run of an earlier version calls `baseline`; whoever calls holds the run directory.

    A process that is killed in between loses nothing: the manifest is written when everything has its new name, and
    the files that were written anew are removed after that.

    Args:
        manifest_file: name of the manifest's file.
        manifest: its content.

    Returns:
        The content as it is now in the file.
    """
    with disk_faults(run):
        if (run / _OLD).is_dir() and not (run / _NEW).exists():
            (run / _OLD).rename(run / _NEW)
    stages: dict[str, Any] = manifest["stages"]
    if is_former(manifest):
        changed = _write_anew(run, stages.get(f"accuracy/{_OLD}", {}).get("outputs", {}))
        manifest = {**manifest, "stages": {_stage(name): _entry(entry, changed) for name, entry in stages.items()}}
        write_json(run / manifest_file, manifest)
    for name in (_ACCURACY, _DETECTIONS):
        if (run / name.format(_NEW)).is_file():
            (run / name.format(_OLD)).unlink(missing_ok=True)
    return manifest


def is_former(manifest: dict[str, Any]) -> bool:
    """Whether a manifest names the control as earlier versions did."""
    stages = set(manifest["stages"])
    return bool({_OLD, f"accuracy/{_OLD}"} & stages) and not {_NEW, f"accuracy/{_NEW}"} & stages


def _write_anew(run: Path, outputs: dict[str, str]) -> dict[str, str]:
    """Write the two files under their new names, where they are whole; returns their hashes."""
    changed = {}
    for name in (_ACCURACY, _DETECTIONS):
        old, new = run / name.format(_OLD), run / name.format(_NEW)
        if not old.is_file() or sha256_file(old) != outputs.get(name.format(_OLD)):
            continue
        if name == _ACCURACY:
            write_json(new, {**read_json(old), "model": _NEW})
        else:
            write_bytes(new, old.read_bytes())
        changed[name.format(_NEW)] = sha256_file(new)
    return changed


def _stage(name: str) -> str:
    return {_OLD: _NEW, f"accuracy/{_OLD}": f"accuracy/{_NEW}"}.get(name, name)


def _entry(entry: dict[str, Any], changed: dict[str, str]) -> dict[str, Any]:
    outputs = {_output(name): digest for name, digest in entry["outputs"].items()}
    return {**entry, "outputs": {name: changed.get(name, digest) for name, digest in outputs.items()}}


def _output(name: str) -> str:
    names = {template.format(_OLD): template.format(_NEW) for template in (_ACCURACY, _DETECTIONS)}
    return f"{_NEW}/{name.removeprefix(f'{_OLD}/')}" if name.startswith(f"{_OLD}/") else names.get(name, name)
