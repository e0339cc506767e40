"""Targets: reads `export/<name>.yaml`, checks that its steps fit together, and runs them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekd import plugins
from edgekd.atomic import disk_faults, sync_folder
from edgekd.errors import EnvironmentFault, InputError
from edgekd.export import graph_ends
from edgekd.export.contract import QUANTIZATION_NAME, Artifact, Job, Material, Source, TargetSpec, step
from edgekd.export.onnx_nms import refuse_end_to_end
from edgekd.progress import progress
from edgekd.recipe.load import bind
from edgekd.recipe.lookup import find
from edgekd.recipe.yaml_text import read_mapping


def load_target(name: str, overrides: Mapping[str, Any], where: str) -> TargetSpec:
    """Read a target and lay a recipe's overrides over it.

    Args:
        name: of a YAML file in `export/`, or its path.
        overrides: keys of `TargetSpec`; nested keys (`tolerance`) are merged.
        where: place in the recipe for messages, e.g. `recipes/x.yaml: export[0]`.

    Raises:
        InputError: one line per problem, with file and key.
    """
    plugins.load("edgekd.targets")  # a file of the user's may name a step of another package
    path = find("export", name)
    content = {"name": path.stem, **read_mapping(path)}
    spec = bind(TargetSpec, content, str(path))
    place = str(path)
    if overrides:
        file, _, prefix = where.rpartition(": ")
        spec = bind(TargetSpec, _merged(content, overrides), file or prefix, prefix if file else "")
        place = f"{where} over {path}"
    problems = [f"{place}: {problem}" for problem in _misfits(spec)]
    if problems:
        raise InputError(*problems)
    for one in spec.steps:
        bind(step(one).options_type, spec.options.get(one, {}), place, f"options.{one}")
    for key, options_type in graph_ends.OPTIONS.items():
        bind(options_type, spec.options.get(key, {}), place, f"options.{key}")
    return spec


def check_size(spec: TargetSpec, train_size_px: tuple[int, int], size_multiple: int) -> tuple[int, int]:
    """[H, W] that the target is made and measured at.

    Raises:
        InputError: not a multiple of the detector's stride.
    """
    height, width = spec.size if isinstance(spec.size, tuple) else train_size_px
    if height % size_multiple or width % size_multiple:
        up_height, up_width = (-(-edge // size_multiple) * size_multiple for edge in (height, width))
        raise InputError(
            f"{spec.name}: size: [{height}, {width}] (height, width) is not a multiple of {size_multiple}, the largest "
            f"stride of the student; use [{up_height}, {up_width}]"
        )
    return height, width


def run_steps(source: Source, spec: TargetSpec, folder: Path, material: Material | None = None) -> Artifact:
    """Run the steps of a target; only the last one's files stay. `folder` appears, or is replaced, as a whole.

    Args:
        material: what quantising steps need.

    Raises:
        InputError: the size, or an operator, cannot be served.
        EnvironmentFault: a package is missing, the disk is full.
    """
    source = replace(source, size_px=check_size(spec, source.size_px, source.size_multiple))
    refuse_end_to_end(source.decode, spec)
    current: Source | Artifact = source
    with _replacing(folder) as temporary, progress(f"export {spec.name}", len(spec.steps)) as advance:
        for index, name in enumerate(spec.steps):
            target = temporary / f"{index}-{name}"
            target.mkdir()
            current = _run(name, current, spec, target, material)
            if graph_ends.is_last_onnx(spec, index):
                assert isinstance(current, Artifact)
                current = graph_ends.fold(current, spec, target)
            advance()
        assert isinstance(current, Artifact)
        _carry(QUANTIZATION_NAME, temporary, current.folder)
        _keep_only(current.folder, temporary)
    return Artifact(folder, current.sidecar)


def _run(name: str, source: Source | Artifact, spec: TargetSpec, folder: Path, material: Material | None) -> Artifact:
    found = step(name)
    try:
        options = found.options_type.model_validate(spec.options.get(name, {}))
        return found.export(source, Job(spec, options, material), folder)
    except ImportError as error:
        package = (error.name or str(error)).split(".")[0]
        raise EnvironmentFault(
            f"{spec.name}: step '{name}' needs the package {package} ({error}); install it: pip install {package}"
        ) from error


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def _misfits(spec: TargetSpec) -> Iterator[str]:
    """Why the steps do not make what the target promises."""
    made = "torch"
    last = None
    for index, name in enumerate(spec.steps):
        try:
            last = step(name)
        except KeyError as error:
            yield f"steps[{index}]: {error.args[0]}"
            return
        if last.source != made:
            yield f"steps[{index}]: '{name}' starts from {last.source}, but what comes before it gives {made}"
            return
        made = last.target
    for name in sorted(set(spec.options) - set(spec.steps) - set(graph_ends.OPTIONS)):
        yield f"options.{name}: is none of the steps ({', '.join(spec.steps)}); remove it"
    assert last is not None
    if last.runtime != spec.runtime:
        yield f"runtime: is {spec.runtime}, but the last step '{last.name}' makes artifacts for {last.runtime}"
    if spec.precision not in last.precisions:
        yield f"precision: is {spec.precision}, but the last step '{last.name}' makes {' or '.join(last.precisions)}"
    yield from graph_ends.misfits(spec)


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A temporary neighbour of `folder` that takes its place when the block ends without an error."""
    temporary, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    with disk_faults(folder):
        for stale in (*folder.parent.glob(f".{folder.name}.*.tmp"), *folder.parent.glob(f".{folder.name}.*.old")):
            shutil.rmtree(stale, ignore_errors=True)  # of a process that was killed
        temporary.mkdir(parents=True)
        try:
            yield temporary
            _sync(temporary)
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
            sync_folder(folder.parent)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
            for leftover in (temporary, old):
                shutil.rmtree(leftover, ignore_errors=True)


def _carry(name: str, steps: Path, last: Path) -> None:
    """Bring a file that an earlier step left to the last one's files."""
    for path in steps.rglob(name):
        if path.parent != last:
            path.rename(last / name)


def _keep_only(kept: Path, folder: Path) -> None:
    """Move the files of `kept`, a folder below `folder`, up into it, and remove every folder there."""
    for path in kept.iterdir():
        path.rename(folder / path.name)
    for path in list(folder.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
    sync_folder(folder)
