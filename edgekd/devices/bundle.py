"""Everything that a device needs of an artifact, in one archive: model, sidecar, agent, an example, checksums.

The same content always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from edgekd.atomic import write_bytes
from edgekd.devices import agent_archive
from edgekd.types import ByteArray

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
_EXAMPLE = Path(__file__).with_name("bundle_example.py.txt")
CHECKSUMS = "SHA256SUMS"
_NEEDS = {  # others are called as the runtime is
    "litert": "    pip install numpy pillow ai-edge-litert",
    "tensorrt": """    pip install numpy pillow           and TensorRT, 8.6, 10 or 11, in one of these ways:

    Jetson      It is part of JetPack, not of pip: sudo apt install nvidia-jetpack, or its package python3-libnvinfer
                alone. That is for the system's own Python: take /usr/bin/python3, or an environment made with
                python3 -m venv --system-site-packages.
    elsewhere   pip install tensorrt, beside the driver of an NVIDIA GPU

    The engine is built on the first start, which can take minutes, and is kept.""",
}
_README = """{name}: {precision} for {runtime}

What the device needs beside Python 3.8 or newer (Pillow reads image files, and turns photos upright; without it the
example takes .npy alone):

{needs}

Then:

    sha256sum -c SHA256SUMS            are all files whole?
    python3 example.py [IMAGE ...]     detect objects; without an image, in sample.npy

model/         the model, and edgekd.json: classes, input size, normalisation, hashes
edgekd-agent-*.pyz   reads the model; also a program: python3 edgekd-agent-*.pyz --help (Apache-2.0)
example.py     how to use it from Python
sample.npy     one image, (height, width, {channels}) uint8{order}

The model is subject to the licence of the framework that it was trained with (Ultralytics: AGPL-3.0 or commercial).
"""


def write(
    path: Path, name: str, artifact: Path, files: Iterable[str], sample: ByteArray, facts: Mapping[str, str]
) -> list[str]:
    """Write the archive; returns the names in it.

    Args:
        path: of the ZIP file.
        name: of the folder in it.
        artifact, files: folder, and which of its files go in.
        sample: (h, w, C) uint8.
        facts: `runtime`, `precision`, `channels`.
    """
    members = {f"model/{file}": (artifact / file).read_bytes() for file in files}
    with tempfile.TemporaryDirectory() as folder:
        agent = agent_archive.build(Path(folder))
        members[agent.name] = agent.read_bytes()
    members["example.py"] = _EXAMPLE.read_text(encoding="utf-8").format(**facts).encode()
    order = ", RGB" if facts["channels"] == "3" else ""
    needs = _NEEDS.get(facts["runtime"], f"    pip install numpy pillow {facts['runtime']}")
    members["README.txt"] = _README.format(name=name, needs=needs, order=order, **facts).encode()
    memory = io.BytesIO()
    np.save(memory, sample, allow_pickle=False)
    members["sample.npy"] = memory.getvalue()
    sums = "".join(f"{hashlib.sha256(members[each]).hexdigest()}  {each}\n" for each in sorted(members))
    members[CHECKSUMS] = sums.encode()
    write_bytes(path, _zipped(name, members))
    return sorted(members)


def _zipped(name: str, members: Mapping[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for member in sorted(members):
            information = zipfile.ZipInfo(f"{name}/{member}", _TIMESTAMP)
            information.external_attr = 0o644 << 16
            archive.writestr(information, members[member])
    return memory.getvalue()
