"""Bundles: unpacked elsewhere and used by a Python that knows nothing of edgekd."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.agent.test_end_to_end import BLOCKED
from tests.stages.tiny import edgekd, measured_as, read

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)


def unpacked(run: Path, target: str, folder: Path) -> Path:
    ended = edgekd("bundle", run, "--target", target, "--out", folder / "b.zip", "--json")
    assert ended.code == 0, ended.err
    with zipfile.ZipFile(folder / "b.zip") as archive:
        archive.extractall(folder / "device")
    (inside,) = (folder / "device").iterdir()
    assert ended.json["files"] == sorted(str(path.relative_to(inside)) for path in inside.rglob("*") if path.is_file())
    return inside


def test_checksums_name_every_file(whole: Whole, tmp_path: Path) -> None:
    inside = unpacked(whole.run, "openvino-fp32", tmp_path)
    stated = dict(line.split("  ")[::-1] for line in (inside / "SHA256SUMS").read_text().splitlines())
    found = {str(path.relative_to(inside)): path for path in inside.rglob("*") if path.is_file()}
    del found["SHA256SUMS"]
    assert stated == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}
    assert {"model/model.xml", "model/model.bin", "model/edgekd.json", "example.py", "README.txt"} <= set(stated)
    assert "pip install numpy pillow openvino" in (inside / "README.txt").read_text()


@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])
def test_the_example_detects_what_the_run_detected(target: str, whole: Whole, tmp_path: Path) -> None:
    """The untrained students are sure of nothing, so the threshold is taken down for the comparison."""
    inside = unpacked(whole.run, target, tmp_path)
    example = (inside / "example.py").read_text()
    assert len(example.splitlines()) <= 60
    (inside / "example.py").write_text(example.replace('"model"), threads', '"model"), conf=0.001, threads'))
    command = [sys.executable, "-I", "-c", BLOCKED, str(inside / "example.py")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    head, *lines = ended.stdout.splitlines()
    detected = read_detections(whole.run / f"validate/{target}@local.detections.jsonl")
    assert head.startswith(f"{inside / 'sample.npy'}: {len(detected)} objects in ")
    found = np.array([[float(line.split()[index]) for index in (3, 5, 7, 9)] for line in lines])
    assert found == pytest.approx(np.round(detected), abs=1.0)


def read_detections(path: Path) -> np.ndarray:
    import json

    return np.array(json.loads(path.read_text().splitlines()[0])["boxes_px"])


def test_the_same_content_gives_the_same_bytes(whole: Whole, tmp_path: Path) -> None:
    hashes = [
        edgekd("bundle", whole.run, "--target", "onnx-fp32", "--out", tmp_path / f"{n}.zip", "--json").json["sha256"]
        for n in (1, 2)
    ]
    assert hashes[0] == hashes[1] == hashlib.sha256((tmp_path / "2.zip").read_bytes()).hexdigest()


def test_what_cannot_be_packed(run: Path, tmp_path: Path) -> None:
    ended = edgekd("bundle", run, "--target", "onnx-fp23")
    assert ended.code == 2
    assert "--target: unknown exported target 'onnx-fp23' (known: onnx-fp32, openvino-fp32; did" in ended.problems[0]
    assert edgekd("bundle", tmp_path, "--target", "x").problems[0].startswith(f"{tmp_path}: no run directory")
    measured_as(run, "export/onnx-fp32/edgekd.json", runtime="executorch")
    ended = edgekd("bundle", run, "--target", "onnx-fp32")
    assert ended.code == 2
    assert "the agent has no runtime for executorch, so a bundle of onnx-fp32 could not run; copy" in ended.problems[0]
    (run / "export/onnx-fp32/model.onnx").write_bytes(b"changed")
    ended = edgekd("bundle", run, "--target", "onnx-fp32")
    assert "its sha256 is not the one in edgekd.json" in ended.problems[0]
    assert not (run / "bundles").exists()
    assert read(run / "manifest.json")["stages"]
