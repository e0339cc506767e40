"""What is known of image files: hash, size as decoded, and whether they can be used at all.

Each file is read once; what was found is kept in RUN/data by path, length and time of change, so that a resumed run
does not read a large data set again.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd import atomic, files
from edgekd.data import problems
from edgekd.data.diagnosis import bits_of, cause_of, is_heif, register_heif
from edgekd.data.letterbox import decode
from edgekd.data.quiet import quiet_decoders
from edgekd.progress import progress

# What the training engine takes.
SUFFIXES = frozenset({
    ".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp",
})  # fmt: skip
_FORMATS = frozenset(suffix[1:] for suffix in SUFFIXES) | {"jpeg2000"}
MIN_SIDE_PX = 10  # the training engine drops smaller images without counting them
_PLAIN_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})  # the header gives the decoded size
_EXIF_ORIENTATION = 274
_SCHEMA = "edgekd.image_facts/2"


@dataclass(frozen=True)
class ImageFacts:
    """One file as decoded.

    Attributes:
        sha256: of the file's bytes.
        height_px, width_px: after EXIF rotation; 0 if it cannot be decoded.
        fault: a kind of `edgekd.data.problems`, or "".
        detail: what exactly is wrong.
        high_byte: the largest one of an image of 16 bits, of which it is what is kept; None for others.
    """

    sha256: str
    height_px: int
    width_px: int
    fault: str = ""
    detail: str = ""
    high_byte: int | None = None


def inspect(path: Path, channels: int) -> ImageFacts:
    """Read `path` once and say what it is; a fault is recorded, never raised."""
    try:
        content = files.read_bytes(Path(path))
    except OSError as error:
        return ImageFacts("", 0, 0, problems.MISSING_IMAGE, str(error.strerror))
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        height, width, fault, high_byte = _examine(Path(path), content, channels)
    except Exception as error:  # decoders raise anything on hostile bytes: SyntaxError, struct.error, IndexError ...
        return ImageFacts(sha256, 0, 0, problems.UNREADABLE_IMAGE, cause_of(Path(path), content, error))
    if fault:
        return ImageFacts(sha256, height, width, problems.WRONG_CHANNELS, fault)
    if min(height, width) < MIN_SIDE_PX:
        return ImageFacts(sha256, height, width, problems.SMALL_IMAGE, f"{width}x{height} px")
    return ImageFacts(sha256, height, width, high_byte=high_byte)


def inspect_all(paths: Sequence[Path], channels: int, cache: Path, *, title: str) -> list[ImageFacts]:
    """Facts of all `paths`, in order; those that are in the file `cache` and unchanged are not read again.

    Raises:
        EnvironmentFault: the cache cannot be written (disk full or read-only).
    """
    known = _read_cache(cache, channels)
    stamps = [_stamp(path) for path in paths]
    facts: list[ImageFacts | None] = []
    for path, stamp in zip(paths, stamps, strict=True):
        entry = known.get(str(path))
        facts.append(ImageFacts(**entry["facts"]) if entry and stamp and entry["stamp"] == stamp else None)
    wanted = [index for index, fact in enumerate(facts) if fact is None]
    if wanted:
        with (
            quiet_decoders(),
            _large_images_allowed(),
            ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
            progress(title, len(wanted)) as advance,
        ):
            for index, fact in zip(wanted, pool.map(lambda i: inspect(paths[i], channels), wanted), strict=True):
                facts[index] = fact
                advance()
        for index in wanted:
            found = facts[index]
            if found is not None and stamps[index]:
                known[str(paths[index])] = {"stamp": stamps[index], "facts": asdict(found)}
        _write_cache(cache, channels, known)
    return [fact for fact in facts if fact is not None]


def is_open_jpeg(path: Path) -> bool:
    """Whether `path` is a JPEG that lacks its end marker, which the training engine would rewrite."""
    with Path(path).open("rb") as stream:
        if stream.read(2) != b"\xff\xd8":
            return False
        stream.seek(-2, os.SEEK_END)
        return stream.read(2) != b"\xff\xd9"


@contextmanager
def _large_images_allowed() -> Iterator[None]:
    """Pillow warns from 89 megapixels on; it refuses from twice as many on, which is told as a fault of the image."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _examine(path: Path, content: bytes, channels: int) -> tuple[int, int, str, int | None]:
    """Height, width after EXIF rotation, what is wrong with the channels, and the high byte of 16 bits.

    Raises what decoders raise on damage.
    """
    import cv2
    from PIL import Image

    if is_heif(content):
        register_heif()
    with Image.open(io.BytesIO(content)) as picture:
        if (picture.format or "").lower() not in _FORMATS:
            raise ValueError(f"format {picture.format} is not supported")
        (width, height), kind = picture.size, picture.format
        deep = bits_of(picture, content) == 16
        picture.verify()  # must be the first call, and closes the picture
    with Image.open(io.BytesIO(content)) as picture:
        if kind == "JPEG" and not content.endswith(b"\xff\xd9"):
            picture.load()  # raises if the file is cut off, not if bytes follow the end
        # Asking a PNG for its EXIF decodes it, so look for the chunk first.
        may_turn = kind != "PNG" or b"eXIf" in content
        turned = may_turn and picture.getexif().get(_EXIF_ORIENTATION) in {5, 6, 7, 8}
    if turned or deep or channels not in (1, 3) or path.suffix.lower() not in _PLAIN_SUFFIXES:
        image = decode(path, channels)
        if image is None:
            raise ValueError("cannot be decoded")
        height, width, found = image.shape
        fault = "" if found == channels else f"{found} channels, not {channels}"
        return height, width, fault, int(image.max()) if deep else None
    if cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8) is None:
        raise ValueError("cannot be decoded")
    return height, width, "", None


def _stamp(path: Path) -> list[int]:
    try:
        status = Path(path).stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _read_cache(cache: Path, channels: int) -> dict[str, dict[str, Any]]:
    try:
        content = atomic.read_json(cache)
        if content["schema"] == _SCHEMA and content["channels"] == channels:
            return dict(content["files"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # a cache that cannot be read is no cache
    return {}


def _write_cache(cache: Path, channels: int, files: dict[str, dict[str, Any]]) -> None:
    atomic.write_json(cache, {"schema": _SCHEMA, "channels": channels, "files": files})
