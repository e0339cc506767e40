"""The embedded data set: real handwritten digits pasted on real photographs, made offline and in both layouts.

The pixels ship in two wheels: 1,797 digits of 8x8 pixels (scikit-learn) and photographs (scikit-image, scikit-learn).
Splits share neither a digit nor a photograph, whatever the seed: a detector trained with one seed has never seen
the test digits of another. Image `i` of a split depends on (seed, split, i, imgsz) alone, so a larger set begins with
the smaller one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgekd import atomic
from edgekd.data import digits_art as art
from edgekd.errors import EnvironmentFault, InputError
from edgekd.progress import progress
from edgekd.types import ByteArray, IntArray

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SCHEMA = "edgekd.digits/1"


@dataclass(frozen=True)
class Source:
    """What one split is made of: a block of the digits (other writers, too) and photographs of its own."""

    samples: range
    photographs: tuple[str, ...]


SOURCES = {
    "train": Source(range(1200), (
        "skimage/data/astronaut.png", "skimage/data/coffee.png",
        "skimage/data/motorcycle_left.png", "skimage/data/motorcycle_right.png",  # one scene, so one split
        "skimage/data/hubble_deep_field.jpg", "skimage/data/ihc.png", "skimage/data/retina.jpg",
        "skimage/data/camera.png", "skimage/data/brick.png", "skimage/data/grass.png", "skimage/data/gravel.png",
    )),
    "val": Source(range(1200, 1500), ("skimage/data/chelsea.png", "skimage/data/rocket.jpg")),
    "test": Source(range(1500, 1797), ("sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg")),
}  # fmt: skip


@dataclass(frozen=True)
class Material:
    """The decoded pixels of one split.

    Attributes:
        masks: (N, 64, 64) uint8 opacity of the ink of each digit.
        classes: (N,) int64, 0..9.
        photographs: uint8 [H, W, 3] RGB each.
    """

    masks: ByteArray
    classes: IntArray
    photographs: tuple[ByteArray, ...]


def material(split: str) -> Material:
    """Digits and photographs of `split`, read from the installed wheels; never from a network.

    Raises:
        EnvironmentFault: a wheel is installed without its pictures.
    """
    source = SOURCES[split]
    images, classes = _digit_samples()
    block = slice(source.samples.start, source.samples.stop)
    return Material(
        masks=np.stack([art.smooth_mask(image) for image in images[block]]),
        classes=classes[block],
        photographs=tuple(_photograph(name) for name in source.photographs),
    )


def draw(split: str, index: int, *, imgsz: int, seed: int, pixels: Material) -> art.Scene:
    """Image `index` of `split`: [imgsz, imgsz, 3] RGB, 1 to 8 digits and their tight boxes."""
    rng, photograph = _begun(split, index, seed)
    canvas = art.background(pixels.photographs[photograph], imgsz, rng)
    return art.paste_digits(canvas, pixels.masks, pixels.classes, rng)


def photograph_of(split: str, index: int, *, seed: int) -> str:
    """The photograph behind an image, by its path in a wheel."""
    return SOURCES[split].photographs[_begun(split, index, seed)[1]]


def _begun(split: str, index: int, seed: int) -> tuple[np.random.Generator, int]:
    """An image's own random numbers, and the first of them: its photograph."""
    rng = np.random.default_rng([seed, list(SOURCES).index(split), index])
    return rng, int(rng.integers(len(SOURCES[split].photographs)))


def generate(out: Path, *, imgsz: int = 96, train: int = 800, val: int = 200, test: int = 200, seed: int = 0) -> Path:
    """Write the data set under `out` in YOLO and in COCO layout, whole or not at all.

    `out` holds images/SPLIT/000001.png, labels/SPLIT/000001.txt, data.yaml, annotations/SPLIT.json and digits.json
    (the arguments and a hash of every file). A folder of the same arguments is verified and used again.

    Returns:
        Path of data.yaml.

    Raises:
        InputError: an argument is out of range, or `out` holds something else or was altered.
        EnvironmentFault: the disk is full or read-only, or a wheel lacks its pictures.
    """
    out = Path(out)
    counts = {"train": train, "val": val, "test": test}
    arguments = {"imgsz": imgsz, **counts, "seed": seed}
    _check_arguments(arguments)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        _verify(out, arguments)
        return out / "data.yaml"
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with atomic.disk_faults(out):
        try:
            shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with the same number
            temporary.mkdir(parents=True)
            with progress("digits", sum(counts.values())) as advance:
                for split in SOURCES:
                    _write_split(temporary, split, arguments, advance)
            (temporary / "data.yaml").write_text(_data_yaml(), encoding="utf-8")
            record = {"schema": SCHEMA, "arguments": arguments, "content_hash": _content_hash(temporary)}
            atomic.write_json(temporary / "digits.json", record)
            if out.exists():
                out.rmdir()
            temporary.replace(out)
            atomic.sync_folder(out.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return out / "data.yaml"


def _write_split(folder: Path, split: str, arguments: dict[str, int], advance: Callable[..., None]) -> None:
    import cv2

    imgsz = arguments["imgsz"]
    for part in (f"images/{split}", f"labels/{split}", "annotations"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    pixels = material(split)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(arguments[split]):
        scene = draw(split, index, imgsz=imgsz, seed=arguments["seed"], pixels=pixels)
        stem = f"{index + 1:06d}"
        encoded = cv2.imencode(".png", scene.image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
        (folder / "images" / split / f"{stem}.png").write_bytes(encoded.tobytes())
        lines = [_yolo_line(box, label, imgsz) for box, label in zip(scene.boxes_px, scene.class_ids, strict=True)]
        (folder / "labels" / split / f"{stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        images.append({"id": index + 1, "file_name": f"{stem}.png", "width": imgsz, "height": imgsz})
        for box, label in zip(scene.boxes_px, scene.class_ids, strict=True):
            annotations.append(_coco_annotation(len(annotations) + 1, index + 1, box, label))
        advance()
    coco = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES)],
    }
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(coco) + "\n", encoding="utf-8")


def _yolo_line(box: tuple[int, int, int, int], label: int, imgsz: int) -> str:
    x1, y1, x2, y2 = box
    values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    return " ".join([str(label), *(f"{value / imgsz:.8f}" for value in values)])


def _coco_annotation(number: int, image_id: int, box: tuple[int, int, int, int], label: int) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {
        "id": number, "image_id": image_id, "category_id": label, "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
    }  # fmt: skip


def _data_yaml() -> str:
    """No `path:`, so that the folder may be moved: relative entries start at the file itself."""
    names = "\n".join(f"  {number}: {name}" for number, name in enumerate(CLASS_NAMES))
    return f"train: images/train\nval: images/val\ntest: images/test\nnc: {len(CLASS_NAMES)}\nnames:\n{names}\n"


def _check_arguments(arguments: dict[str, int]) -> None:
    lowest = {"imgsz": 32, "train": 1, "val": 1, "test": 1, "seed": 0}
    wrong = [
        f"digits: {name}: {value} is too small (allowed: {lowest[name]} or more); choose a larger {name}"
        for name, value in arguments.items()
        if value < lowest[name]
    ]
    if wrong:
        raise InputError(*wrong)


def _verify(out: Path, arguments: dict[str, int]) -> None:
    remedy = "remove it or choose another folder"
    try:
        record = atomic.read_json(out / "digits.json")
        found = {"arguments": record["arguments"], "content_hash": record["content_hash"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{out}: exists and is not a digits data set (no readable digits.json); {remedy}") from None
    if record.get("schema") != SCHEMA or found["arguments"] != arguments:
        given = ", ".join(f"{name} {value}" for name, value in arguments.items())
        raise InputError(f"{out}: holds digits made with {found['arguments']}, asked for {given}; {remedy}")
    if found["content_hash"] != _content_hash(out):
        raise InputError(f"{out}: its files were altered since they were made (content hash differs); {remedy}")


def _content_hash(folder: Path) -> str:
    """SHA-256 over names and bytes of all files that `generate` writes; caches of other programs do not count."""
    digest = hashlib.sha256()
    for path in _own_files(folder):
        digest.update(f"{path.relative_to(folder).as_posix()}\n{atomic.sha256_file(path)}\n".encode())
    return digest.hexdigest()


def _own_files(folder: Path) -> Iterator[Path]:
    yield from sorted([*folder.glob("data.yaml"), *folder.glob("annotations/*.json")])
    yield from sorted(folder.glob("images/*/*.png"))
    yield from sorted(folder.glob("labels/*/*.txt"))


@cache
def _digit_samples() -> tuple[ByteArray, IntArray]:
    """(1797, 8, 8) uint8 ink 0..16 and (1797,) int64 classes, in the order of the wheel."""
    rows = np.loadtxt(_in_wheel("sklearn/datasets/data/digits.csv.gz"), delimiter=",", dtype=np.uint8)
    return rows[:, :64].reshape(-1, 8, 8), rows[:, 64].astype(np.int64)


def _photograph(name: str) -> ByteArray:
    from PIL import Image

    with Image.open(_in_wheel(name)) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)


def _in_wheel(name: str) -> Path:
    """A file by its path in a wheel; the packages' own loaders take a second to import, and may want to download."""
    package, _, inside = name.partition("/")
    found = importlib.util.find_spec(package)
    roots = (found.submodule_search_locations if found else None) or []
    for root in roots:
        path = Path(root) / inside
        if path.is_file():
            return path
    wheel = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
    raise EnvironmentFault(f"digits: {name} is missing from the installed {wheel}; reinstall it: pip install {wheel}")
