"""The example of a bundle, on the images that people have: photos that lie on their side, grey ones, none at all."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.devices import bundle
from edgekd.export.contract import SIDECAR_NAME, Source
from edgekd.export.targets import run_steps
from tests.export.students import CLASS_NAMES, source, target

_ORIENTATION = 0x0112  # EXIF tag


def photograph() -> Any:
    from skimage import data

    return np.asarray(data.chelsea())[:, :, :3]  # 300 x 451


def unpacked(folder: Path, made: Source, name: str = "onnx-fp32", **facts: str) -> Path:
    artifact = run_steps(made, target(name), folder / "artifact")
    files = (*artifact.sidecar.files, SIDECAR_NAME)
    known = {"runtime": "onnxruntime", "precision": "fp32", "channels": str(made.channels), **facts}
    sample = np.zeros((*made.size_px, made.channels), np.uint8)
    bundle.write(folder / "b.zip", "device", artifact.folder, files, sample, known)
    with zipfile.ZipFile(folder / "b.zip") as archive:
        archive.extractall(folder)
    return folder / "device"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("rgb"), source("yolo11p", size_px=(160, 224)))


@pytest.fixture(scope="module")
def grey_device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector

    detector = UltralyticsDetector.opened(Asked("yolo11p", None, CLASS_NAMES, 1, "student"))
    module = detector.export_module(None).eval()
    made = Source(module, module.decode, CLASS_NAMES, 1, (64, 96), detector.spec.size_multiple, sha256="5eed" * 16)
    return unpacked(tmp_path_factory.mktemp("grey"), made)


def run(device: Path, *images: Path, code: int = 0, before: str = "pass") -> list[str]:
    """What the example prints, without times; or, where it fails, what it says."""
    program = f"import runpy, sys; sys.argv = sys.argv[1:]; {before}; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-I", "-c", program, str(device / "example.py"), *map(str, images)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code, ended.stderr
    if code:
        return ended.stderr.splitlines()
    return [re.sub(r"^.*: (\d+ objects).*", r"\1", line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize(("orientation", "turned"), [(6, 1), (8, -1), (3, 2)])
def test_a_photo_that_lies_on_its_side_is_turned_upright(
    orientation: int, turned: int, device: Path, tmp_path: Path
) -> None:
    """A phone writes the sensor's rows as they come, and how it was held into the EXIF."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    Image.fromarray(np.rot90(photograph(), turned)).save(tmp_path / "phone.jpg", exif=exif, quality=95)
    stored = np.asarray(Image.open(tmp_path / "phone.jpg"))
    np.save(tmp_path / "upright.npy", np.rot90(stored, -turned))
    found = run(device, tmp_path / "phone.jpg")
    assert found == run(device, tmp_path / "upright.npy")
    assert len(found) > 20
    np.save(tmp_path / "lying.npy", stored)
    assert found != run(device, tmp_path / "lying.npy")


def test_a_model_of_one_channel(grey_device: Path, tmp_path: Path) -> None:
    """Colour pictures become grey, grey ones stay; the sample comes as it is."""
    text = (grey_device / "example.py").read_text()
    (grey_device / "example.py").write_text(text.replace("threads=os.cpu_count() or 1", "threads=1, conf=0.001"))
    picture = Image.fromarray(photograph())
    picture.save(tmp_path / "colour.png")
    picture.convert("L").save(tmp_path / "grey.png")
    np.save(tmp_path / "grey.npy", np.asarray(picture.convert("L"))[..., None])
    expected = run(grey_device, tmp_path / "grey.npy")
    assert len(expected) > 1
    assert run(grey_device, tmp_path / "grey.png") == run(grey_device, tmp_path / "colour.png") == expected
    assert run(grey_device)[0].endswith("objects")
    assert "sample.npy     one image, (height, width, 1) uint8\n" in (grey_device / "README.txt").read_text()


def test_what_cannot_be_read_is_one_line(device: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    np.save(tmp_path / "grey.npy", np.zeros((9, 9, 1), np.uint8))
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(photograph()).save(tmp_path / "photo.jpg")
    expected = {
        "none.jpg": "No such file or directory",
        "none.npy": "No such file or directory",
        "broken.jpg": f"cannot identify image file '{tmp_path / 'broken.jpg'}'",
        "grey.npy": "a frame is uint8 (height, width, 3); got uint8 (9, 9, 1)",
        "deep.png": "has more than 8 bits per channel; convert it first",
    }
    for name, reason in expected.items():
        assert run(device, tmp_path / name, code=1) == [f"example.py: {tmp_path / name}: {reason}"]
    without = run(device, tmp_path / "photo.jpg", code=1, before="sys.modules['PIL'] = None")
    assert without == [
        f"example.py: {tmp_path / 'photo.jpg'}: cannot be read (import of PIL halted; None in sys.modules); "
        "pip install pillow"
    ]
    (device / "model" / "model.onnx").rename(tmp_path / "away.onnx")
    assert run(device, code=1) == [
        f"example.py: {device / 'model' / 'model.onnx'}: cannot read (No such file or directory)"
    ]
    (tmp_path / "away.onnx").rename(device / "model" / "model.onnx")


def test_the_readme_says_what_the_device_needs(device: Path, tmp_path: Path) -> None:
    assert "    pip install numpy pillow onnxruntime\n" in (device / "README.txt").read_text()
    sample = np.zeros((8, 8, 3), np.uint8)
    for runtime, texts in {
        "tensorrt": ("part of JetPack, not of pip", "python3-libnvinfer", "--system-site-packages"),
        "litert": ("    pip install numpy pillow ai-edge-litert\n",),
        "openvino": ("    pip install numpy pillow openvino\n",),
    }.items():
        facts = {"runtime": runtime, "precision": "fp16", "channels": "3"}
        bundle.write(tmp_path / "b.zip", "device", device / "model", (SIDECAR_NAME,), sample, facts)
        with zipfile.ZipFile(tmp_path / "b.zip") as archive:
            readme = archive.read("device/README.txt").decode()
        assert all(text in readme for text in texts)
        assert max(map(len, readme.splitlines())) <= 120
