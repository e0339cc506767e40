# SPDX-License-Identifier: Apache-2.0
"""An artifact as the agent sees it: a folder with a model and `edgekd.json`, checked before anything is opened."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from .protocol import AgentError

if TYPE_CHECKING:
    import numpy.typing as npt

SIDECAR_NAME = "edgekd.json"
SCHEMA = "edgekd.artifact/1"
_NEEDED = ("schema_version", "target", "runtime", "precision", "files", "input_shape", "size_px", "decode")


class Artifact(NamedTuple):
    """A model and what its sidecar says.

    Attributes:
        model_path: the file that a runtime opens.
        model_sha256: its hash, verified.
        runtime, precision, decode, layout, input_dtype, channel_order, scale, pad_value, nms, build: as in the sidecar.
        input_shape: [N, C, H, W], whatever the layout; None where dynamic.
        size_px: (height, width) that it is measured at.
    """

    target: str
    model_path: Path
    model_sha256: str
    runtime: str
    precision: str
    decode: str
    input_shape: List[Optional[int]]
    size_px: Tuple[int, int]
    layout: str
    input_dtype: str
    channel_order: str
    scale: float
    pad_value: int
    nms: Optional[Dict[str, Any]]
    build: Dict[str, Any]

    def batch(self, wanted: Optional[int]) -> int:
        """The batch size to run: the fixed one, else `wanted`, else 1.

        Raises:
            AgentError: `wanted` is not the fixed one.
        """
        fixed = self.input_shape[0]
        if fixed and wanted and fixed != wanted:
            raise AgentError(
                "artifact",
                f"--batch {wanted}: {self.target} has a fixed batch of {fixed}; export it"
                f" with 'batch: {wanted}' or 'batch: dynamic', where its runtime takes that",
            )
        return fixed or wanted or 1


def load(folder: Path) -> Artifact:
    """Read and verify an artifact folder.

    Raises:
        AgentError: no readable sidecar, a file is missing, or its hash is another one.
    """
    path = folder / SIDECAR_NAME
    sidecar = _read_sidecar(path)
    try:
        return _artifact(folder, sidecar)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise AgentError("artifact", f"{path}: is damaged ({reason}); export the artifact again") from error


def _artifact(folder: Path, sidecar: Dict[str, Any]) -> Artifact:
    """Of a sidecar that may hold anything; whatever does not fit raises."""
    hashes = {name: _verified(folder, name, sha256) for name, sha256 in sidecar["files"].items()}
    model = next(iter(hashes))
    return Artifact(
        target=sidecar["target"],
        model_path=folder / model,
        model_sha256=hashes[model],
        runtime=sidecar["runtime"],
        precision=sidecar["precision"],
        decode=sidecar["decode"],
        input_shape=_shape(sidecar["input_shape"]),
        size_px=(int(sidecar["size_px"][0]), int(sidecar["size_px"][1])),
        layout=_one_of(sidecar.get("layout", "NCHW"), ("NCHW", "NHWC")),
        input_dtype=_one_of(sidecar.get("input_dtype", "float32"), ("float32", "uint8")),
        channel_order=_one_of(sidecar.get("channel_order", "RGB"), ("RGB", "BGR", "as_data")),
        scale=_scale(float(sidecar.get("scale", 255.0))),
        pad_value=int(np.uint8(sidecar.get("pad_value", 114))),
        nms=_thresholds(sidecar.get("nms")),
        build=dict(sidecar.get("build", {})),
    )


def load_pack(path: Path, artifact: Artifact) -> npt.NDArray[np.uint8]:
    """Open a pack of letterboxed images, (N, H, W, C) uint8, without reading it all.

    Raises:
        AgentError: not such a file, or its images do not fit the model.
    """
    try:
        images: npt.NDArray[np.uint8] = np.load(str(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AgentError("pack", f"{path}: cannot read the pack ({error}); make it again") from error
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
        raise AgentError("pack", f"{path}: a pack is a non-empty uint8 (N, H, W, C); got {images.dtype} {images.shape}")
    given = (images.shape[3], images.shape[1], images.shape[2])
    wanted = tuple(artifact.input_shape[1:])
    if any(size is not None and size != got for size, got in zip(wanted, given)):
        raise AgentError("pack", f"{path}: images are {given} (C, H, W); {artifact.target} takes {wanted}")
    return images


def _shape(given: Any) -> List[Optional[int]]:
    """[N, C, H, W] of whole numbers above 0, None where dynamic."""
    shape = [None if size is None else int(size) for size in given]
    if len(shape) != 4 or any(size is not None and size < 1 for size in shape):
        raise ValueError(f"input_shape is {shape}")
    return shape


def _one_of(given: str, known: Tuple[str, ...]) -> str:
    if given not in known:
        raise ValueError(f"{given!r} is none of {', '.join(known)}")
    return given


def _scale(value: float) -> float:
    if not 0 < value < float("inf"):
        raise ValueError(f"scale is {value}")
    return value


def _thresholds(given: Any) -> Optional[Dict[str, Any]]:
    """Of the NMS inside the graph."""
    if given is None:
        return None
    return {**given, "conf": float(given["conf"]), "iou": float(given["iou"]), "max_det": int(given["max_det"])}


def _read_sidecar(path: Path) -> Dict[str, Any]:
    if _is_irregular(path):
        raise AgentError("artifact", f"{path}: is no regular file; export the artifact again")
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(sidecar, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise AgentError("artifact", f"{path}: cannot read the sidecar ({error}); export the artifact again") from error
    missing = [key for key in _NEEDED if key not in sidecar]
    if missing or not sidecar["files"]:
        raise AgentError("artifact", f"{path}: lacks {', '.join(missing or ['files'])}; export the artifact again")
    if sidecar["schema_version"] != SCHEMA:
        given = sidecar["schema_version"]
        raise AgentError("artifact", f"{path}: schema_version: '{given}' (this agent reads '{SCHEMA}')")
    return dict(sidecar)


def _is_irregular(path: Path) -> bool:
    """Whether something is there that is no regular file: a pipe would be waited for, a device never ends."""
    return os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113  (these raise nothing)


def _verified(folder: Path, name: str, expected: str) -> str:
    if Path(name).name != name or name in ("", "..") or "\0" in name:
        raise AgentError("artifact", f"{folder / SIDECAR_NAME}: files: '{name}' is not a plain file name")
    if _is_irregular(folder / name):
        raise AgentError("artifact", f"{folder / name}: is no regular file")
    digest = hashlib.sha256()
    try:
        with (folder / name).open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise AgentError("artifact", f"{folder / name}: cannot read ({error.strerror})") from error
    if digest.hexdigest() != expected:
        raise AgentError(
            "artifact",
            f"{folder / name}: sha256 is {digest.hexdigest()[:12]}..., the sidecar says {expected[:12]}...;"
            " the file was changed or is not whole: export or push it again",
        )
    return expected
