"""Artifact folders: model files with their hashes and `edgekd.json`, and the copy of it inside the model."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgekd import __version__
from edgekd.atomic import read_json, sha256_file, write_json
from edgekd.errors import InputError
from edgekd.export.contract import SIDECAR_NAME, Artifact, Sidecar
from edgekd.export.engine_metadata import engine_metadata
from edgekd.export.outputs import describe, least_onnx_runtime

METADATA_KEY = "edgekd"


def seal(folder: Path, files: tuple[str, ...], sidecar: Sidecar) -> Artifact:
    """Hash the written files and put `edgekd.json` beside them.

    Args:
        files: names in `folder`, the one that a runtime opens first.
        sidecar: what to write; its `files` are replaced.
    """
    sealed = sidecar.model_copy(update={"files": {name: sha256_file(folder / name) for name in files}})
    write_json(folder / SIDECAR_NAME, sealed.model_dump(mode="json"))
    return Artifact(folder, sealed)


def open_artifact(folder: Path) -> Artifact:
    """Read an artifact folder and check its files against their hashes.

    Raises:
        InputError: no sidecar, an unreadable one, a missing file, or a file that was changed.
    """
    path = folder / SIDECAR_NAME
    remedy = "export it again with 'edgekd export'"
    try:
        sidecar = Sidecar.model_validate(read_json(path))
    except FileNotFoundError:
        raise InputError(f"{folder}: no artifact here ({SIDECAR_NAME} is missing); {remedy}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a sidecar of edgekd ({_first(error)}); {remedy}") from error
    if not sidecar.files:
        raise InputError(f"{path}: not a sidecar of edgekd (it names no file); {remedy}")
    problems = []
    for name, expected in sidecar.files.items():
        if not (folder / name).is_file():
            problems.append(f"{folder / name}: missing, but named in {SIDECAR_NAME}; {remedy}")
        elif sha256_file(folder / name) != expected:
            problems.append(f"{folder / name}: its sha256 is not the one in {SIDECAR_NAME}; {remedy}")
    if problems:
        raise InputError(*problems)
    return Artifact(folder, sidecar)


def _first(error: Exception) -> str:
    """The first fault that was found."""
    if isinstance(error, ValidationError):
        fault = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    return str(error).splitlines()[0]


def metadata(sidecar: Sidecar) -> str:
    """The sidecar as one line of JSON without file hashes: what is embedded in the model under `METADATA_KEY`."""
    return json.dumps(sidecar.model_copy(update={"files": {}}).model_dump(mode="json"), sort_keys=True)


def onnx_metadata(model: Any) -> Sidecar:
    """The sidecar embedded in an `onnx.ModelProto`, its `files` empty.

    Raises:
        KeyError: the model was not written by edgekd.
    """
    return Sidecar.model_validate_json({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])


def save_onnx(model: Any, sidecar: Sidecar, folder: Path) -> Artifact:
    """Check an `onnx.ModelProto`, embed the sidecar, what of it the graph says itself, and write both to `folder`."""
    import onnx

    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    stated = {
        "outputs": describe(sidecar.decode, model.graph),
        "least_runtime": least_onnx_runtime(sidecar.runtime, opset),
    }
    sidecar = sidecar.model_copy(update=stated)
    model.producer_name, model.producer_version = "edgekd", sidecar.tools["edgekd"]
    del model.metadata_props[:]
    for_engine = {key: str(value) for key, value in engine_metadata(sidecar).items()}
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata(sidecar), **for_engine})
    onnx.checker.check_model(model, full_check=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    return seal(folder, ("model.onnx",), sidecar)


def tool_versions(*packages: str) -> dict[str, str]:
    """Versions of installed packages, edgekd's own first."""
    return {"edgekd": __version__, **{package: version(package) for package in packages}}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings and log lines of the converters off stderr; what matters of them is checked, or raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
