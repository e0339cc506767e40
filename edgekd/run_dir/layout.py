"""What edgekd writes into a run directory, and emptying it of that and of nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from edgekd.atomic import disk_faults, read_json, remove_leftovers
from edgekd.run_dir.manifest import LOCKED_RECIPE, MANIFEST

LOCK = ".lock"
SEARCH = "search.json"  # says that the directory is a search's, not a run's

WEIGHTS_SUFFIXES = (".pt", ".pth", ".safetensors")  # of the files that families save a trained student in
_TRAINED = ("baseline", "control", "student", "student_qat", "seeds/*/control", "seeds/*/student")
# As glob patterns below the run directory. What the manifest lists comes on top.
_FILES = (
    LOCKED_RECIPE, "seeds.json", "test.json", "verdict.json", "report.html", "report.md", "report.json", ".token-*",
    "data/split.json", "data/ground_truth-val.json", "data/image_facts.json", "data/pseudo_labels.json",
    "estimate.json", "data/packs/*-*.npy", "data/packs/*-*.json", "teacher/teacher.json",
    *(f"{name}/student{suffix}" for name in _TRAINED for suffix in WEIGHTS_SUFFIXES),
    *(f"{name}/{file}" for name in _TRAINED for file in ("metrics.json", "training.json", "resume.pt")),
    *(f"{name}/{file}" for name in _TRAINED for file in ("epochs.csv", "terms.csv")),
    *(f"{name}/first_steps.json" for name in _TRAINED),
    "knowledge.json", "knowledge/knowledge.json", "knowledge/views.json", "knowledge/*-*/*.safetensors",
    *(f"prepare/*/prepared{suffix}" for suffix in WEIGHTS_SUFFIXES),
    *(f"prepare/*/{file}" for file in ("epochs.csv", "training.json", "metrics.json", "resume.pt")),
    *(f"export/*/{file}" for file in ("edgekd.json", "parity.json", "quantization.json", "bisect.json")),
    *(f"{folder}/*@*.{end}" for folder in ("validate", "profile") for end in ("json", "jsonl", "jsonl.partial")),
    SEARCH, "best.yaml", "study.journal", "study.journal.lock", "proxy/*.json", "proxy/warm/*.*",
    *(f"{root}/validate/*@*.{end}" for root in ("seeds/*", "test", "test/seeds/*") for end in ("json", "jsonl")),
)  # fmt: skip
# Folders that edgekd replaces as a whole whenever it needs them -> the file that marks them, where there is one.
# Glob patterns, too.
_FOLDERS = {
    ".engine": "", "data/train_view": "view.json", "data/train_view_student": "view.json", "data/digits": "digits.json",
    "proxy/view": "view.json", "proxy/warm/engine": "", "proxy/warm/logs": "", "trial": "",
    **{f"{name}/{folder}": "" for name in (*_TRAINED, "prepare/*") for folder in ("engine", "logs")},
}  # fmt: skip


def empty(path: Path) -> list[str]:
    """Delete what edgekd wrote, but the lock and the manifest, which goes on saying that this is a run directory.

    Returns:
        the files that stay, since nothing says that edgekd wrote them; names below `path`.
    """
    with disk_faults(path):
        remove_leftovers(path)
        for folder, marker in ((found, marker) for name, marker in _FOLDERS.items() for found in path.glob(name)):
            if _is_within(folder, path) and folder.is_dir() and (not marker or (folder / marker).is_file()):
                shutil.rmtree(folder)
                _remove_empty(folder.parent, path)
        for file in {*_matching(path, _FILES), *_listed(path)}:
            if not file.is_dir() and file.name not in (LOCK, MANIFEST):
                file.unlink()
                _remove_empty(file.parent, path)
    return sorted(name for name in _everything(path) if name not in (LOCK, MANIFEST))


def _matching(path: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    return (found for pattern in patterns for found in path.glob(pattern) if _is_within(found, path))


def _listed(path: Path) -> Iterator[Path]:
    """Files that the manifest or a sidecar names, and bundles of exported targets."""
    manifest = _read(path / MANIFEST)
    stages = manifest.get("stages")
    for entry in stages.values() if isinstance(stages, dict) else ():
        yield from _named(path, path, entry.get("outputs") if isinstance(entry, dict) else None)
    for folder in path.glob("export/*/"):
        yield from _named(path, folder, _read(folder / "edgekd.json").get("files"))
        yield from _named(path, path / "bundles", {f"{folder.name}.zip": ""})


def _named(path: Path, folder: Path, names: Any) -> Iterator[Path]:
    for name in names if isinstance(names, dict) else ():
        relative = PurePosixPath(name)
        file = folder / relative
        inside = not relative.is_absolute() and ".." not in relative.parts
        if inside and os.path.lexists(file) and _is_within(file, path):
            yield file


def _is_within(found: Path, path: Path) -> bool:
    """Whether the way to it leads through no link: what a run directory links to is not its own."""
    parents = list(found.relative_to(path).parents)[:-1]
    return not any((path / parent).is_symlink() for parent in parents) and not found.is_symlink()


def _remove_empty(folder: Path, path: Path) -> None:
    """Remove `folder` and the folders above it, up to `path`, as far as nothing is left in them."""
    while folder != path and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _everything(path: Path) -> Iterator[str]:
    """Files and links below `path`, and folders that hold none."""
    for parent, folders, files in os.walk(path):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(parent) / name).relative_to(path).as_posix()
        if not folders and not files and Path(parent) != path:
            yield Path(parent).relative_to(path).as_posix()


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is none that can be read."""
    try:
        content = read_json(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
