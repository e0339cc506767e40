"""Why an image file cannot be read, and what to do about it, where decoders say as little as `cannot identify`."""

from __future__ import annotations

import io
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevm", b"hevs", b"hevx", b"mif1", b"msf1"})
_HEIF_SUFFIXES = frozenset({".heic", ".heif"})
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _SAMPLES, _SAMPLE_FORMAT = 258, 277, 339  # tags of TIFF
_FLOAT = 3
_CHANGE = "convert it to 8 bits per channel"
_PIXELS = re.compile(r"\((\d+) pixels\)")


def cause_of(path: Path, content: bytes, error: Exception) -> str:
    """In a few words.

    Args:
        content: the file's bytes.
        error: what a decoder raised.
    """
    if not content:
        return "is empty"
    if content.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS; run 'git lfs pull'"
    if is_heif(content):
        return _heif(path)
    if pixels := _PIXELS.search(str(error)):
        return _too_large(int(pixels[1]))
    if content.startswith(_TIFF_MARKS):
        return _tiff(content) or _words(error)
    return _words(error)


def is_heif(content: bytes) -> bool:
    """HEIC and HEIF, but not AVIF, which is a relative."""
    brands = {content[start : start + 4] for start in (8, *range(16, min(int.from_bytes(content[:4], "big"), 64), 4))}
    return content[4:8] == b"ftyp" and bool(brands & _HEIF_BRANDS) and b"avif" not in brands


@lru_cache(maxsize=1)
def register_heif() -> bool:
    """Let Pillow read HEIC by pi-heif, which takes most of a second to import; False where it is not installed."""
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def bits_of(picture: Any, content: bytes) -> int:
    """Bits of a sample as stored; Pillow's mode is RGB for 16 bits of colour, too."""
    if picture.format == "PNG":
        return content[24]
    if picture.format == "TIFF":
        return max(_all(picture.tag_v2.get(_BITS, 8)))
    return 16 if picture.mode.startswith("I;16") else 8


def narrow(high_byte: int) -> str:
    """Of 16-bit images whose largest value has this high byte: how many bits they use."""
    return f"uses {(256 * high_byte + 255).bit_length()} of 16 bits"


def _heif(path: Path) -> str:
    advice = "convert it to JPEG"
    if path.suffix.lower() not in _HEIF_SUFFIXES:
        return f"HEIC under the suffix {path.suffix}; call it .heic and install pi-heif, or {advice}"
    if not register_heif():
        return f"HEIC, for which Pillow needs pi-heif: pip install pi-heif, or {advice}"
    return f"HEIC that cannot be decoded; {advice}"


def _too_large(pixels: int) -> str:
    from PIL import Image

    limit = 2 * (Image.MAX_IMAGE_PIXELS or pixels) / 1e6
    return f"{pixels / 1e6:.0f} megapixels, at most {limit:.0f} are read; scale it down or cut it into tiles"


def _tiff(content: bytes) -> str:
    """What its samples are; "" for 8 bits, with which something else is wrong."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        is_big = b"+" in content[2:4]
        directory = ImageFileDirectory_v2(content[:16] if is_big else content[:8])
        stream = io.BytesIO(content)
        stream.seek(directory.next)
        directory.load(stream)
        bits, formats = _all(directory.get(_BITS, 1)), _all(directory.get(_SAMPLE_FORMAT, 1))
        samples = directory.get(_SAMPLES, 1)
    except Exception:  # hostile bytes: anything
        return ""
    if max(bits) <= 8:
        return ""
    if max(bits) == 16 and _FLOAT not in formats:
        return f"TIFF of {samples} x 16 bits, damaged or stored in a way that is not read; {_CHANGE}"
    kind = "floating-point" if _FLOAT in formats else "whole"
    return f"TIFF of {samples} x {max(bits)}-bit {kind} numbers, which are not read; {_CHANGE}"


def _all(value: Any) -> tuple[int, ...]:
    """The values of a tag, of which there may be one."""
    return tuple(value) if isinstance(value, tuple) else (value,)


def _words(error: Exception) -> str:
    # A decoder that is not installed is not the fault: the bytes are of no format that is.
    text = " ".join(str(error).split())
    return "not an image" if isinstance(error, ImportError) or text.startswith("cannot identify") else text[:80]
