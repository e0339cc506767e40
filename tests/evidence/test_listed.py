"""What was executed: a file shows it, until the code of its row changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.evidence import listed, sources
from edgekd.evidence.document import Shown
from tests.evidence.made import made, shown, written

FP16 = shown("tensorrt-fp16", "linux", "aarch64", "GPU")


def row(folder: Path, name: str) -> dict[str, Any]:
    return next(one for one in listed.targets(folder) if one["target"] == name)


def test_without_a_file_the_code_says_what_was_never_executed(tmp_path: Path) -> None:
    assert "no engine was ever built" in row(tmp_path, "tensorrt-fp16")["untested"][0]
    assert row(tmp_path, "tensorrt-fp16")["executed"] == []
    assert row(tmp_path, "onnx-fp32")["untested"] == []


def test_a_file_shows_it(tmp_path: Path) -> None:
    written(tmp_path, made(FP16))
    found = row(tmp_path, "tensorrt-fp16")
    assert found["untested"] == []
    assert found["executed"] == ["on Jetson AGX Orin (edgekd 0.1.0, tensorrt 10.3.0.26; 2026-11-27)"]
    assert row(tmp_path, "tensorrt-fp32")["untested"] == []  # the same step
    assert row(tmp_path, "tensorrt-fp32")["executed"] == []
    assert "running on ARM" in row(tmp_path, "ncnn-fp16")["untested"]  # another runtime


def test_a_place_that_is_another_shows_nothing(tmp_path: Path) -> None:
    written(tmp_path, made(shown("ncnn-fp16", "linux", "x86_64", "CPU")))
    assert "running on ARM" in row(tmp_path, "ncnn-fp16")["untested"]
    written(tmp_path, made(shown("ncnn-fp16", "linux", "aarch64", "CPU")), "pi.json")
    assert "running on ARM" not in row(tmp_path, "ncnn-fp16")["untested"]
    assert "running with Vulkan" in row(tmp_path, "ncnn-fp16")["untested"]


@pytest.mark.parametrize("name", ["edgekd/agent.py", "agent/cuda_2.py", "agent/tensorrt/engine.py"])
def test_changed_code_is_untested_again(tmp_path: Path, name: str) -> None:
    changed = Shown.model_validate({**FP16.model_dump(), "sources": {**FP16.sources, name: "0" * 64}})
    written(tmp_path, made(changed))
    found = row(tmp_path, "tensorrt-fp16")
    assert found["executed"] == []
    assert "no engine was ever built" in found["untested"][0]


@pytest.mark.parametrize(("where", "scale"), [(("linux", "GPU"), "miniature"), (("linux", "GPU", "emulated"), "full")])
def test_miniatures_and_emulated_devices_show_nothing(tmp_path: Path, where: tuple[str, ...], scale: str) -> None:
    written(tmp_path, made(shown("tensorrt-fp16", *where), scale=scale))
    assert row(tmp_path, "tensorrt-fp16")["executed"] == []


def test_devices_say_which_machine_was_one(tmp_path: Path) -> None:
    files = sources.hashes(sources.of_device("raspberry-pi-5", "ssh"))
    seen = Shown(row="device raspberry-pi-5", where=("linux", "aarch64"), by={"edgekd": "0.1.0"}, sources=files)
    written(tmp_path, made(seen, machine="Raspberry Pi 5 Model B"))
    found = {one["device"]: one["executed"] for one in listed.devices(tmp_path)}
    assert found["raspberry-pi-5"] == ["on Raspberry Pi 5 Model B (edgekd 0.1.0; 2026-11-27)"]
    assert found["android"] == []


def test_the_code_of_a_target_is_its_file_its_steps_and_its_runtime() -> None:
    assert {
        "export/tensorrt-fp16.yaml", "export/onnx_from_torch.py", "export/onnx_fp16_from_onnx.py",
        "export/tensorrt_from_onnx.py", "agent/runtimes/tensorrt_runtime.py", "agent/tensorrt/engine.py",
    } <= set(FP16.sources)  # fmt: skip
    assert "agent/runtimes/openvino_runtime.py" not in FP16.sources
    assert "devices/ssh.py" in sources.hashes(sources.of_device("raspberry-pi-5", "ssh"))
