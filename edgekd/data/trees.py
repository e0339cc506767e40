"""Tree crowns in aerial photographs: real pictures that come by pip alone, cut into tiles.

The wheel of `deepforest` (Weinstein et al., MIT licence) holds four photographs of the National Ecological Observatory
Network, about 0.1 m a pixel, with 951 boxes around crowns. The wheel is read as the archive that it is: nothing of it
is installed or run, and every file that is used has to have its known hash. The licence's text goes with the tiles.

Tiles are cut without overlap. The right-hand columns of each photograph are val, so no crown of train is seen from
another side there; but the photographs are the same, so AP says little of other forests.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from edgekd import atomic
from edgekd.errors import InputError
from edgekd.progress import progress
from edgekd.types import ByteArray, FloatArray

TILE_PX = 224
VAL_SHARE = 0.3  # of the columns of tiles of a photograph
LEAST_VISIBLE = 0.4  # of a crown's box, for a tile to have it
WHEEL = "deepforest-2.1.0-py3-none-any.whl"
REMEDY = "get it by: pip download --no-deps deepforest==2.1.0"
_LICENCE = "deepforest-2.1.0.dist-info/licenses/LICENSE"
_PHOTOGRAPHS = (
    "2019_YELL_2_528000_4978000_image_crop2", "2019_YELL_2_541000_4977000_image_crop", "OSBS_029", "SOAP_061",
)  # fmt: skip
_SHA256 = {
    "2019_YELL_2_528000_4978000_image_crop2.png": "a9bdb0f4447fdd899d22f567e0e20ba8320c5413b2ad0cd0ac8d9f3b6e0f9767",
    "2019_YELL_2_528000_4978000_image_crop2.xml": "bd431af6a5086d721eb731b22f5ea28cd8a8eab06883efc1c665391acbc68e11",
    "2019_YELL_2_541000_4977000_image_crop.png": "178e58a23cc2642226a364a30f71bd9258ddc1b012c826f12250914a90c7a131",
    "2019_YELL_2_541000_4977000_image_crop.xml": "cefe4b96888bacbf8af1674f000082e549aa707aa6590d545effb23e43f26631",
    "OSBS_029.png": "d9477c6a00e4902c7bee487d4c5582c3b8b9a2f77f3908a29628b816b291e6ee",
    "OSBS_029.xml": "1f68c4011d7b351c29ca755072e77f3d16e6fd1f995bd05a9dd4eb952b55373c",
    "SOAP_061.png": "256508f1a62149bec4a80879077a865caf50e8cace095e6564c76befa480d424",
    "SOAP_061.xml": "4833280af75fd9c47965a93e38945282835e9e725cac412bdb9469d63480947c",
    "LICENSE": "5487293ab54d4861d41b5f51622b236f610def978abf6d88091f74559232ab14",
}


@dataclass(frozen=True)
class Tile:
    """A square of a photograph: [TILE_PX, TILE_PX, 3] RGB, and the boxes (N, 4) in it, x1 y1 x2 y2 in its px."""

    split: str
    name: str
    image: ByteArray
    boxes_px: FloatArray


def generate(out: Path, wheel: Path) -> Path:
    """Write the tiles under `out` in the YOLO layout, whole or not at all; returns the data.yaml.

    Raises:
        InputError: the wheel is not there or another one, or `out` is there already.
        EnvironmentFault: the disk is full or read-only.
    """
    out = Path(out)
    if out.exists():
        raise InputError(f"{out}: is there already; choose another --out, or use {out / 'data.yaml'} as it is")
    files = _read(wheel)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with atomic.disk_faults(out):
        try:
            with progress("trees", len(_PHOTOGRAPHS)) as advance:
                _write(temporary, files, advance)
            temporary.replace(out)
            atomic.sync_folder(out.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return out / "data.yaml"


def tiles(name: str, image: ByteArray, boxes_px: FloatArray) -> Iterator[Tile]:
    """The tiles of a photograph, left to right and down.

    Args:
        name: of the photograph.
        image: [H, W, 3] RGB.
        boxes_px: (N, 4) x1 y1 x2 y2.
    """
    rows, columns = (side // TILE_PX for side in image.shape[:2])
    first_of_val = columns - round(VAL_SHARE * columns)
    for row in range(rows):
        for column in range(columns):
            top, left = row * TILE_PX, column * TILE_PX
            split = "val" if column >= first_of_val else "train"
            pixels = image[top : top + TILE_PX, left : left + TILE_PX]
            yield Tile(split, f"{name}-{row:02d}-{column:02d}", pixels, _inside(boxes_px, left, top))


def _inside(boxes_px: FloatArray, left: int, top: int) -> FloatArray:
    """Boxes that a tile shows enough of, clipped to it, in its px."""
    moved = boxes_px - np.array([left, top, left, top], np.float32)
    clipped = np.clip(moved, 0, TILE_PX)
    visible, whole = (np.prod(box[:, 2:] - box[:, :2], axis=1) for box in (clipped, moved))
    kept: FloatArray = clipped[visible >= LEAST_VISIBLE * np.maximum(whole, 1)]
    return kept


def _write(folder: Path, files: dict[str, bytes], advance: Callable[..., None]) -> None:
    from PIL import Image

    for photograph in _PHOTOGRAPHS:
        with Image.open(io.BytesIO(files[f"{photograph}.png"])) as opened:
            image = np.asarray(opened.convert("RGB"))
        for tile in tiles(photograph, image, _boxes(files[f"{photograph}.xml"])):
            for part in ("images", "labels"):
                (folder / part / tile.split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(tile.image).save(folder / "images" / tile.split / f"{tile.name}.png")
            lines = "".join(f"{_yolo(box)}\n" for box in tile.boxes_px)
            (folder / "labels" / tile.split / f"{tile.name}.txt").write_text(lines, encoding="utf-8")
        advance()
    (folder / "LICENSE").write_bytes(files["LICENSE"])
    about = f"# Cut by edgekd from {WHEEL} (MIT, see LICENSE): {TILE_PX} px, val is the right of each photograph.\n"
    (folder / "data.yaml").write_text(f"{about}train: images/train\nval: images/val\nnames: [tree]\n", encoding="utf-8")


def _boxes(content: bytes) -> FloatArray:
    """(N, 4) x1 y1 x2 y2 of a Pascal VOC file, whatever the class: crowns alive and dead."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    boxes = ElementTree.fromstring(content).iter("bndbox")
    found = [[float(box.findtext(corner, "nan")) for corner in corners] for box in boxes]
    return np.array(found, np.float32).reshape(-1, 4)


def _yolo(box: FloatArray) -> str:
    x1, y1, x2, y2 = box.tolist()
    values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    return " ".join(["0", *(f"{value / TILE_PX:.6f}" for value in values)])


def _read(wheel: Path) -> dict[str, bytes]:
    """Name without its folder -> content, of the files that are used.

    Raises:
        InputError: no such wheel, or a file in it has another hash than the known one.
    """
    found = {}
    with _opened(wheel) as archive:
        for name, expected in _SHA256.items():
            inside = _LICENCE if name == "LICENSE" else f"deepforest/data/{name}"
            try:
                content = archive.read(inside)
            except (KeyError, zipfile.BadZipFile) as error:
                raise InputError(f"{wheel}: holds no sound {inside}; {REMEDY}") from error
            if hashlib.sha256(content).hexdigest() != expected:
                raise InputError(f"{wheel}: {inside} is not the one that is known; {REMEDY}")
            found[name] = content
    return found


@contextmanager
def _opened(wheel: Path) -> Iterator[zipfile.ZipFile]:
    if not wheel.is_file():
        raise InputError(f"--from {wheel}: no such file; {REMEDY}")
    try:
        archive = zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        raise InputError(f"--from {wheel}: is no wheel; {REMEDY}") from error
    with archive:
        yield archive
