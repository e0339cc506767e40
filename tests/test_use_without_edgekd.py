"""docs/use-without-edgekd.md: its programs, run as they stand there, detect what the agent detects."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekd.agent.detector import Detector
from edgekd.agent.postprocess import Decoded
from edgekd.agent.preprocess import NumpyResize
from edgekd.export.targets import run_steps
from tests.export.students import CLASS_NAMES, source, target

PAGE = (Path(__file__).parents[1] / "docs" / "use-without-edgekd.md").read_text(encoding="utf-8")
SIZE_PX = (160, 224)


def block(title: str, language: str) -> str:
    """The block of one language below a heading."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (found,) = (part for part in section if part.startswith(f"{title}\n"))
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", found, flags=re.MULTILINE | re.DOTALL)
    return str(code)


def photograph() -> np.ndarray:
    from skimage import data

    return np.asarray(data.chelsea())[:, :, :3]  # 300 x 451


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in ("onnx-fp32", "openvino-fp32"):
        made[name] = tmp_path_factory.mktemp(name)
        run_steps(source("yolo11p", size_px=SIZE_PX), target(name), made[name] / "model")
    return made


def require_alike(printed: str, ours: Decoded, names: tuple[str, ...], score: float, box_px: float) -> None:
    """Every line has its detection, and every detection that is not on the threshold its line."""
    rows = [line.split() for line in printed.splitlines()]
    classes = np.array([names.index(row[0]) for row in rows])
    values = np.array([[float(value) for value in row[1:]] for row in rows])
    assert len(rows) > 50
    off = np.abs(values[:, None, 1:] - ours.boxes_px[None]).max(axis=2) / box_px
    off = np.maximum(off, np.abs(values[:, None, 0] - ours.scores[None]) / score)
    off[classes[:, None] != ours.class_ids[None]] = np.inf
    sure = ours.scores > 0.25 + score
    assert (off.min(axis=1) <= 1).mean() >= 0.99
    assert (off.min(axis=0)[sure] <= 1).mean() >= 0.99


@pytest.mark.parametrize(("title", "name"), [("ONNX Runtime", "onnx-fp32"), ("OpenVINO", "openvino-fp32")])
def test_the_programs_in_python(title: str, name: str, folders: dict[str, Path]) -> None:
    from PIL import Image

    program = block(title, "python")
    assert len([line for line in program.splitlines() if line.strip()]) <= 28
    Image.fromarray(photograph()).save(folders[name] / "photo.png")
    ended = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=folders[name],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    ours = Detector(folders[name] / "model", conf=0.25)(photograph())
    require_alike(ended.stdout, ours, CLASS_NAMES, score=1e-4, box_px=0.011)


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile with")
def test_the_program_in_cpp(folders: dict[str, Path], tmp_path: Path) -> None:
    """Built by the commands of the page; it runs ONNX and IR. Its resize is the agent's own, for want of OpenCV."""
    (tmp_path / "detect.cpp").write_text(block("C++", "cpp"))
    image = photograph()
    (tmp_path / "photo.ppm").write_bytes(b"P6\n%d %d\n255\n" % (image.shape[1], image.shape[0]) + image.tobytes())
    commands = block("C++", "sh").splitlines()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name, model in (("onnx-fp32", "model.onnx"), ("openvino-fp32", "model.xml")):
        run = commands[-1].replace("model/model.onnx", str(folders[name] / "model" / model))
        script = "\n".join(["set -e", *(commands[:-1] if name == "onnx-fp32" else []), run])
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        detect = Detector(folders[name] / "model", conf=0.25)
        detect._resize = NumpyResize()
        require_alike(ended.stdout, detect(image), ("0", "1", "2"), score=1e-3, box_px=0.1)
