"""A pack: the letterboxed images of a split in one array file, since a device may have no image decoder.

`NAME-HASH.npy` is uint8 [N, H, W, C], RGB; `NAME-HASH.json` beside it says which image is where. The hash covers the
split's content, the size, the channels and the version of the letterbox, so a pack is never stale.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd import atomic
from edgekd.data import letterbox
from edgekd.data.letterbox import Geometry
from edgekd.data.quiet import quiet_decoders
from edgekd.progress import progress
from edgekd.types import ByteArray, FloatArray, Split

SCHEMA = "edgekd.pack/1"
_CHUNK = 32  # images in memory at once


@dataclass(frozen=True)
class PackedImage:
    """One image of a pack: which it is, its size, and where it lies in its letterbox."""

    image_id: int
    height_px: int
    width_px: int
    geometry: Geometry

    def as_json(self) -> dict[str, Any]:
        """Flat, as in the pack's JSON."""
        own = {"image_id": self.image_id, "height_px": self.height_px, "width_px": self.width_px}
        return {**own, **asdict(self.geometry)}


@dataclass(frozen=True)
class Pack:
    """A pack on disk.

    Attributes:
        images: in the order of the array and of `Split.images`.
        size_px: (height, width) of every letterboxed image.
        sha256: of the array file.
    """

    npy_path: Path
    images: tuple[PackedImage, ...]
    size_px: tuple[int, int]
    channels: int
    sha256: str

    def arrays(self) -> ByteArray:
        """uint8 [N, H, W, C], read from the disk as it is used."""
        array: ByteArray = np.load(self.npy_path, mmap_mode="r", allow_pickle=False)
        return array

    def restore(self, index: int, boxes_px: FloatArray) -> FloatArray:
        """Boxes (N, 4) found in letterboxed image `index`, in pixels of the original image and clipped to it."""
        image = self.images[index]
        return letterbox.to_original(boxes_px, image.geometry, image.height_px, image.width_px)


def build(split: Split, size_px: tuple[int, int], channels: int, folder: Path) -> Pack:
    """The pack of `split` at `size_px` (height, width) in `folder`; made if it is not there already.

    Raises:
        InputError: an image cannot be decoded any more.
        EnvironmentFault: the disk is full or read-only.
    """
    size_px = (int(size_px[0]), int(size_px[1]))
    inputs = {
        "content_hash": split.content_hash, "size_px": list(size_px), "channels": channels,
        "letterbox": letterbox.VERSION,
    }  # fmt: skip
    base = Path(folder) / f"{split.name}-{atomic.sha256_json(inputs)[:12]}"
    npy_path, json_path = base.with_suffix(".npy"), base.with_suffix(".json")
    header = _npy_header((len(split.images), *size_px, channels))
    length = len(header) + len(split.images) * size_px[0] * size_px[1] * channels
    if json_path.is_file() and npy_path.is_file() and npy_path.stat().st_size == length:
        return read(json_path)
    images, sha256 = _write_array(npy_path, header, split, size_px, channels)
    record = {
        "schema": SCHEMA, "split": split.name, "inputs": inputs, "sha256": sha256, "size_px": list(size_px),
        "channels": channels, "images": [image.as_json() for image in images],
    }  # fmt: skip
    atomic.write_json(json_path, record)  # last: it says that the array is whole
    return Pack(npy_path, images, size_px, channels, sha256)


def read(json_path: Path) -> Pack:
    """Open a pack by its JSON file.

    Raises:
        InputError: it is not what `build` writes.
    """
    with atomic.as_written(json_path):
        record = atomic.read_json(json_path)
        images = []
        for entry in record["images"]:
            own = {name: entry.pop(name) for name in ("image_id", "height_px", "width_px")}
            images.append(PackedImage(**own, geometry=Geometry(**entry)))
        size_px = (record["size_px"][0], record["size_px"][1])
        return Pack(Path(json_path).with_suffix(".npy"), tuple(images), size_px, record["channels"], record["sha256"])


def _write_array(
    path: Path, header: bytes, split: Split, size_px: tuple[int, int], channels: int
) -> tuple[tuple[PackedImage, ...], str]:
    """Stream the array to `path`. Written, not memory-mapped: a full disk is then an error and not a dead process."""
    digest = hashlib.sha256(header)
    images = []
    with atomic.atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(header)
        with progress(f"pack {split.name}", len(split.images)) as advance:
            for pixels, image in _letterboxed(split, size_px, channels):
                content = pixels.tobytes()
                stream.write(content)
                digest.update(content)
                images.append(image)
                advance()
    return tuple(images), digest.hexdigest()


def _letterboxed(split: Split, size_px: tuple[int, int], channels: int) -> Iterator[tuple[ByteArray, PackedImage]]:
    """Decoded on several threads, in order, a chunk at a time."""

    def load(index: int) -> tuple[ByteArray, PackedImage]:
        truth = split.images[index]
        image = letterbox.load_image(Path(split.image_dir) / truth.file_name, channels)
        pixels, geometry = letterbox.letterbox(image, size_px)
        return pixels, PackedImage(truth.image_id, truth.height_px, truth.width_px, geometry)

    with quiet_decoders(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(split.images), _CHUNK):
            yield from pool.map(load, range(start, min(start + _CHUNK, len(split.images))))


def _npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()
