"""Twenty images as people really have them: odd sizes, grey, 16 bits, CMYK, alpha, EXIF rotation, odd names, no labels.

`make_odd_set(folder)` writes them in the YOLO layout with digits to find, and a COCO twin of the same images with crowd
boxes beside it (`annotations/train.json`, `annotations/val.json`; images under `images/train`, `images/val`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgekd.data import digits
from edgekd.data import digits_art as art

ORIENTATION = 274
_RAW_TURN = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@dataclass(frozen=True)
class Odd:
    """One image: its upright size, how it is stored, and whether it has labels (None: not even a file)."""

    name: str
    height_px: int
    width_px: int
    mode: str = "RGB"
    orientation: int = 1
    labelled: bool | None = True
    tail: bytes = b""


ODD = {
    "train": (
        Odd("a plain one.jpg", 97, 131),
        Odd("alpha.png", 101, 77, mode="RGBA"),
        Odd("deep.png", 88, 90, mode="I;16"),
        Odd("empty.png", 50, 50, labelled=False),
        Odd("grey photo.jpg", 75, 200, mode="L"),
        Odd("grey.png", 120, 64, mode="L"),
        Odd("open.jpg", 64, 96, tail=b"\0\0\0"),
        Odd("press.jpg", 60, 133, mode="CMYK"),
        Odd("sub folder/größe 図 'x' \"y\".jpg", 150, 41),
        Odd("turned 6.jpg", 140, 70, orientation=6),
    ),
    "val": (
        Odd("UPPER.JPG", 33, 47),
        Odd("huge.jpg", 900, 701),
        Odd("no label.bmp", 64, 64, labelled=None),
        Odd("page.tif", 57, 83),
        Odd("palette.png", 111, 99, mode="P"),
        Odd("tall.png", 400, 11),
        Odd("thin.png", 10, 300),
        Odd("turned 3.jpg", 71, 120, orientation=3),
        Odd("turned 8.jpg", 66, 180, orientation=8),
        Odd("web.webp", 128, 127),
    ),
}
COCO_IDS = {index: 3 * index + 7 for index in range(10)}  # with gaps, as COCO has them
CROWD_EVERY = 3  # every third image of the COCO twin has one crowd box over its upper left quarter


def make_odd_set(folder: Path) -> Path:
    """Write the set under `folder`; returns data.yaml. The same bytes each time."""
    folder = Path(folder)
    pixels = digits.material("val")
    for split_number, (split, odd_ones) in enumerate(ODD.items()):
        coco: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": COCO_IDS[index], "name": name} for index, name in enumerate(digits.CLASS_NAMES)],
        }
        for index, odd in enumerate(odd_ones):
            rng = np.random.default_rng([7, split_number, index])
            image, boxes = _draw(odd, pixels, rng)
            _save(folder / "images" / split / odd.name, image, odd)
            if odd.labelled is not None:
                _write_labels((folder / "labels" / split / odd.name).with_suffix(".txt"), boxes, odd)
            _add_to_coco(coco, 10 * (index + 1), odd, boxes, crowd=index % CROWD_EVERY == 0)
        target = folder / "annotations" / f"{split}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(coco), encoding="utf-8")
    names = "\n".join(f"  {index}: {name}" for index, name in enumerate(digits.CLASS_NAMES))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}\n", encoding="utf-8")
    return folder / "data.yaml"


def _draw(odd: Odd, pixels: digits.Material, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, art.Box]]]:
    """An upright RGB image with up to two digits side by side along its longer side."""
    height, width = odd.height_px, odd.width_px
    long_side, short_side = max(height, width), min(height, width)
    image = art.background(pixels.photographs[int(rng.integers(2))], long_side, rng)[:height, :width].copy()
    boxes: list[tuple[int, art.Box]] = []
    if not odd.labelled:
        return image, boxes
    for slot in range(2):
        chosen = int(rng.integers(len(pixels.masks)))
        side = min(short_side, long_side / 2) * 0.8
        alpha = art.turned(pixels.masks[chosen], 0.0 if short_side < 20 else rng.uniform(-20, 20), side)
        tall, wide = (min(size, room) for size, room in zip(alpha.shape, (height, width), strict=True))
        offset = slot * long_side // 2
        x1, y1 = (0, offset) if height > width else (offset, 0)
        y1, x1 = min(y1, height - tall), min(x1, width - wide)
        alpha = alpha[:tall, :wide]
        art.blend(image[y1 : y1 + tall, x1 : x1 + wide], alpha, rng.integers(0, 256, 3), 0.95)
        boxes.append((int(pixels.classes[chosen]), (x1, y1, x1 + wide, y1 + tall)))
    return image, boxes


def _save(path: Path, image: np.ndarray, odd: Odd) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    upright = Image.fromarray(image)
    if odd.mode == "I;16":
        upright = Image.fromarray(np.asarray(upright.convert("L")).astype(np.uint16) * 257)
    elif odd.mode != "RGB":
        upright = upright.convert(odd.mode)
    options: dict[str, Any] = {"quality": 95} if path.suffix.lower() in {".jpg", ".webp"} else {}
    if odd.orientation != 1:
        upright = upright.transpose(_RAW_TURN[odd.orientation])
        exif = Image.Exif()
        exif[ORIENTATION] = odd.orientation
        options["exif"] = exif
    upright.save(path, **options)
    if odd.tail:
        path.write_bytes(path.read_bytes() + odd.tail)


def _write_labels(path: Path, boxes: list[tuple[int, art.Box]], odd: Odd) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = odd.height_px, odd.width_px
    lines = []
    for label, (x1, y1, x2, y2) in boxes:
        shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(" ".join([str(label), *(f"{share:.9f}" for share in shares)]))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _add_to_coco(
    coco: dict[str, Any], image_id: int, odd: Odd, boxes: list[tuple[int, art.Box]], *, crowd: bool
) -> None:
    height, width = odd.height_px, odd.width_px
    coco["images"].append({"id": image_id, "file_name": odd.name, "height": height, "width": width})
    labels = [(label, box, 0) for label, box in boxes]
    if crowd:
        labels.append((0, (0, 0, width // 2, height // 2), 1))
    for label, (x1, y1, x2, y2), is_crowd in labels:
        coco["annotations"].append({
            "id": len(coco["annotations"]) + 1, "image_id": image_id, "category_id": COCO_IDS[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": is_crowd,
        })  # fmt: skip


def noisy_files(folder: Path) -> Path:
    """Images that can be read, or not, and make libjpeg, libpng and libtiff write to standard error."""
    folder.mkdir(parents=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8))
    image.save(folder / "bytes before the end.jpg")
    content = (folder / "bytes before the end.jpg").read_bytes()
    (folder / "bytes before the end.jpg").write_bytes(content[:-2] + b"\x55" * 50 + content[-2:])
    image.save(folder / "profile.png", icc_profile=b"\0" * 200)
    image.save(folder / "cut.tif")
    (folder / "cut.tif").write_bytes((folder / "cut.tif").read_bytes()[:-5000])
    return folder


def unreadable_files(folder: Path) -> dict[str, str]:
    """Images that need a reason: name -> what edgekd says of it."""
    import tifffile

    folder.mkdir(parents=True, exist_ok=True)
    change = "which are not read; convert it to 8 bits per channel"
    grey = np.random.default_rng(0).random((20, 30))
    samples = {
        "float.tif": (
            grey.astype(np.float32),
            f"TIFF of 1 x 32-bit floating-point numbers, {change}",
        ),
        "half.tif": (
            grey.astype(np.float16),
            f"TIFF of 1 x 16-bit floating-point numbers, {change}",
        ),
        "colour.tiff": (
            np.stack([grey] * 3, axis=2).astype(np.float32),
            f"TIFF of 3 x 32-bit floating-point numbers, {change}",
        ),
        "double.tif": (grey, f"TIFF of 1 x 64-bit floating-point numbers, {change}"),
        "long.tif": ((grey * 4e9).astype(np.uint32), f"TIFF of 1 x 32-bit whole numbers, {change}"),
    }
    for name, (pixels, _) in samples.items():
        tifffile.imwrite(folder / name, pixels, photometric="minisblack" if "colour" not in name else "rgb")
    heic = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + b"\0" * 100
    written = {
        "photo.heic": (heic, "HEIC, for which Pillow needs pi-heif: pip install pi-heif, or convert it to JPEG"),
        "photo.jpg": (heic, "HEIC under the suffix .jpg; call it .heic and install pi-heif, or convert it to JPEG"),
        "empty.png": (b"", "is empty"),
        "pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS; run 'git lfs pull'"),
        "text.png": (b"<!DOCTYPE html>", "not an image"),
    }
    for name, (content, _) in written.items():
        (folder / name).write_bytes(content)
    Image.new("1", (16_000, 12_000)).save(folder / "huge.png")
    huge = "192 megapixels, at most 179 are read; scale it down or cut it into tiles"
    return {name: said for name, (_, said) in {**samples, **written}.items()} | {"huge.png": huge}
