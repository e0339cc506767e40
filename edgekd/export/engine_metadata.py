"""What Ultralytics reads of an exported file: how to use it, or, where it would misread the outputs, that it must not.

The engine opens any ONNX as one of its own and takes the first output for (1, 4 + K, N). Its own metadata keys are the
only thing that it looks at before: an unknown `task` is refused by every mode, in an error that shows the text, and a
`stride` that is no number is refused where the caller names the task himself.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import yaml

from edgekd.atomic import write_text
from edgekd.export.contract import Sidecar

METADATA_NAME = "metadata.yaml"  # beside the files of formats that cannot hold it
_READ_ALIKE = ("onnxruntime", "openvino", "tensorrt")  # from other formats the engine wants other units


def engine_metadata(sidecar: Sidecar) -> dict[str, Any]:
    """The metadata that the engine's own export would write; or, for what it would misread, a refusal."""
    refusal = _refusal(sidecar)
    if refusal:
        return {"task": refusal, "stride": refusal}
    batch, channels, height, _ = sidecar.input_shape
    known = {} if sidecar.size_multiple is None else {"stride": sidecar.size_multiple}
    return {
        "description": f"edgekd {sidecar.target}",
        "author": "edgekd",
        "version": sidecar.tools["edgekd"],
        "task": "detect",
        "batch": batch or 1,
        "imgsz": list(sidecar.size_px),
        "names": dict(enumerate(sidecar.class_names)),
        "channels": channels,
        "end2end": sidecar.decode.endswith("end2end"),
        "args": {"dynamic": batch is None and height is None},  # else the engine keeps to the size, one batch at a time
        **known,
    }


def write_beside(folder: Path, sidecar: Sidecar) -> str:
    """Write the metadata into a folder that the engine opens as a whole; returns the file's name."""
    write_text(folder / METADATA_NAME, yaml.safe_dump(engine_metadata(sidecar), allow_unicode=True, sort_keys=False))
    return METADATA_NAME


def append_to(path: Path, sidecar: Sidecar) -> None:
    """Append the metadata to a `.tflite` as a ZIP archive, where the format's readers look for such files."""
    entry = zipfile.ZipInfo("metadata.json", (1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, json.dumps(engine_metadata(sidecar)))


def _refusal(sidecar: Sidecar) -> str | None:
    if sidecar.runtime not in _READ_ALIKE:
        return f"{sidecar.runtime} model with outputs of edgekd, which Ultralytics misreads: edgekd.json explains them"
    if sidecar.decode == "dense":
        return "boxes and scores in two outputs (edgekd), which Ultralytics misreads: export with layout: ultralytics"
    if sidecar.layout != "NCHW" or sidecar.input_dtype != "float32":
        return "uint8 NHWC input (edgekd), which Ultralytics does not feed: export with input: float32_nchw"
    return None
