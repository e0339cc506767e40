"""What was executed: a file shows it, until the code of its row changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.evidence import artifacts, listed, sources
from edgekd.evidence.document import Shown
from edgekd.evidence.experiments import targets
from edgekd.evidence.kept import Executed
from edgekd.export.mobile import BEYOND
from edgekd.export.targets import load_target
from edgekd.stages import listing
from tests.evidence.made import MACHINE, made, shown, written

TENSORRT = {"tensorrt": "10.3.0.26"}
FP16 = shown("tensorrt-fp16", "linux", "aarch64", "GPU", by=TENSORRT)


def row(folder: Path, name: str) -> dict[str, Any]:
    return next(one for one in listed.targets(folder) if one["target"] == name)


def test_without_a_file_the_code_says_what_was_never_executed(tmp_path: Path) -> None:
    assert "no engine was ever built" in row(tmp_path, "tensorrt-fp16")["untested"][0]
    assert row(tmp_path, "tensorrt-fp16")["executed"] == []
    assert row(tmp_path, "onnx-fp32")["untested"] == []


def test_a_file_shows_it(tmp_path: Path) -> None:
    written(tmp_path, made(FP16))
    found = row(tmp_path, "tensorrt-fp16")
    assert [text.partition(":")[0] for text in found["untested"]] == ["TensorRT 8.6", "TensorRT 11"]
    assert found["executed"] == ["on Jetson AGX Orin (edgekd 0.1.0, tensorrt 10.3.0.26; 2026-11-27)"]
    for other in ("tensorrt-fp32", "tensorrt-int8"):  # the same step, another precision
        assert row(tmp_path, other)["executed"] == []
        assert len(row(tmp_path, other)["untested"]) == 3
    assert "running on ARM" in row(tmp_path, "ncnn-fp16")["untested"]  # another runtime


def test_a_place_that_is_another_shows_nothing(tmp_path: Path) -> None:
    written(tmp_path, made(shown("ncnn-fp16", "linux", "x86_64", "CPU")))
    assert "running on ARM" in row(tmp_path, "ncnn-fp16")["untested"]
    written(tmp_path, made(shown("ncnn-fp16", "linux", "aarch64", "CPU")), "pi.json")
    assert "running on ARM" not in row(tmp_path, "ncnn-fp16")["untested"]
    assert "running with Vulkan" in row(tmp_path, "ncnn-fp16")["untested"]
    written(tmp_path, made(shown("ncnn-fp16", "android", "aarch64", "Vulkan", "made on darwin arm64")), "phone.json")
    assert row(tmp_path, "ncnn-fp16")["untested"] == ["conversion on linux aarch64", "conversion on darwin x86_64"]


def test_what_nothing_of_edgekd_runs_stays_untested(tmp_path: Path) -> None:
    written(tmp_path, made(shown("coreml", "darwin", "arm64", "made on darwin arm64")))
    assert any("Core ML is part of Apple's systems" in text for text in row(tmp_path, "coreml")["untested"])


def test_every_word_of_a_step_can_be_in_a_file() -> None:
    """Those of places come from what a device, a runtime or a program says, those of machines from this one."""
    makers = (("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "x86_64"), ("Darwin", "arm64"))
    devices = [
        {
            **MACHINE,
            "system": system,
            "machine": maker,
            "device": {**MACHINE["device"], "platform": {"machine": runner}},
        }
        for system, maker in makers
        for runner in ("x86_64", "aarch64")
    ]
    gpu = {"delegated": [{"nodes": 9, "of": 9, "delegate": "TfLiteGpuDelegateV2"}]}
    told = [artifacts.ran({"facts": [facts]}) for facts in ({"gpu_device": 0}, {"gpu_device": -1}, gpu)]
    words = {word for there in devices for ran in told for word in targets._words(there, ran)}
    words |= {word for version in ("8.6.1", "10.3.0.26", "11.0.0") for word in executed_by(tensorrt=version).words}
    assert {"Vulkan", "GPU delegate", "made on darwin arm64", "tensorrt 8"} <= words
    asked = {word for one in listing.list_targets() for texts in one["untested"].values() for word in texts}
    assert asked - words == {BEYOND}


def test_what_a_timing_program_ran_is_its_runtime_without_a_version() -> None:
    environment = {"program": "benchncnn", "runtime": "ncnn", "precision": "fp16"}
    lanes = [{"facts": [{"gpu_device": -1}]}, {"facts": [{"gpu_device": 0}]}]
    assert artifacts.ran({"environment": environment, "lanes": lanes}) == {
        "name": "ncnn", "program": "benchncnn", "accelerators": ["Vulkan"],
    }  # fmt: skip
    by_agent = {"name": "tensorrt", "version": "10.3.0.26", "providers": ["GPU"], "options": {}}
    assert artifacts.ran({"environment": {"runtime": by_agent}}) == by_agent


def executed_by(**by: str) -> Executed:
    return Executed("target a", ("linux",), "a board", by, "2026-11-27", ())


@pytest.mark.parametrize("name", ["edgekd/agent.py", "agent/cuda_2.py", "agent/tensorrt/engine.py"])
def test_changed_code_is_untested_again(tmp_path: Path, name: str) -> None:
    changed = Shown.model_validate({**FP16.model_dump(), "sources": {**FP16.sources, name: "0" * 64}})
    written(tmp_path, made(changed))
    found = row(tmp_path, "tensorrt-fp16")
    assert found["executed"] == []
    assert len(found["untested"]) == 3


@pytest.mark.parametrize(("where", "scale"), [(("linux", "GPU"), "miniature"), (("linux", "GPU", "emulated"), "full")])
def test_miniatures_and_emulated_devices_show_nothing(tmp_path: Path, where: tuple[str, ...], scale: str) -> None:
    written(tmp_path, made(shown("tensorrt-fp16", *where), scale=scale))
    assert row(tmp_path, "tensorrt-fp16")["executed"] == []


def test_providers_are_told_for_their_runtime(tmp_path: Path) -> None:
    files = sources.hashes(sources.of_runtime("onnxruntime"))
    by = {"edgekd": "0.1.0", "onnxruntime": "1.30.0"}
    seen = Shown(row="provider onnxruntime CUDAExecutionProvider", where=("linux", "CUDAExecutionProvider"), by=by,
                 sources=files)  # fmt: skip
    old = seen.model_copy(update={"row": "provider openvino GPU", "sources": {"agent/gone.py": "0" * 64}})
    written(tmp_path, made(seen, seen, old, machine="NVIDIA H200"))
    told = "CUDAExecutionProvider on NVIDIA H200 (edgekd 0.1.0, onnxruntime 1.30.0; 2026-11-27)"
    assert row(tmp_path, "onnx-int8")["providers"] == [told]
    assert row(tmp_path, "openvino-fp16")["providers"] == []
    _, notes = listing.shown_targets(listed.targets(tmp_path))
    assert [note for note in notes if "ExecutionProvider" in note] == [f"onnxruntime: executed in {told}"]


def test_devices_say_which_machine_was_one(tmp_path: Path) -> None:
    files = sources.hashes(sources.of_device("raspberry-pi-5", "ssh"))
    seen = Shown(row="device raspberry-pi-5", where=("linux", "aarch64"), by={"edgekd": "0.1.0"}, sources=files)
    written(tmp_path, made(seen, machine="Raspberry Pi 5 Model B"))
    found = {one["device"]: one["executed"] for one in listed.devices(tmp_path)}
    assert found["raspberry-pi-5"] == ["on Raspberry Pi 5 Model B (edgekd 0.1.0; 2026-11-27)"]
    assert found["android"] == []


QUANTISER = {"export/int8.py", "export/qdq.py", "export/sensitivity.py", "export/graph_parts.py"}
AGENT = {"agent/session.py", "agent/preprocess.py", "agent/postprocess.py", "agent/runtimes/__init__.py"}


@pytest.mark.parametrize(
    ("target", "has", "has_not"),
    [
        ("tensorrt-fp16",
         {"export/tensorrt-fp16.yaml", "export/onnx_from_torch.py", "export/onnx_fp16_from_onnx.py",
          "export/tensorrt_from_onnx.py", "agent/runtimes/tensorrt_runtime.py", "agent/tensorrt/engine.py",
          "agent/cuda.py", "agent/tegra.py"},
         {"agent/runtimes/openvino_runtime.py", "export/openvino_from_onnx.py", "export/int8.py", "export/qdq.py"}),
        ("tensorrt-int8", {*QUANTISER, "export/onnx_int8_from_onnx.py", "agent/cuda.py"}, {"export/mobile.py"}),
        ("onnx-int8", {*QUANTISER, "agent/runtimes/onnxruntime_providers.py"}, {"agent/cuda.py", "agent/tegra.py"}),
        ("openvino-int8", {*QUANTISER, "export/openvino_int8_from_onnx.py"}, {"export/onnx_int8_from_onnx.py"}),
        ("onnx-fp32", {"export/onnx_from_torch.py"},
         {*QUANTISER, "export/onnx_fp16_from_onnx.py", "export/onnx_nms.py"}),
        ("ncnn-fp16", {"export/mobile.py", "export/converters/to_ncnn.py", "export/converters/job.py"},
         {"export/converters/to_litert.py", "export/converters/onnx_module.py"}),
        ("litert-int8", {"export/converters/to_litert.py", "export/converters/onnx_module.py"},
         {"export/converters/to_ncnn.py"}),
    ],
)  # fmt: skip
def test_the_code_of_a_target_is_what_its_steps_and_its_runtime_import(
    target: str, has: set[str], has_not: set[str]
) -> None:
    found = set(sources.of_target(load_target(target, {}, target)))
    assert has | AGENT <= found
    # Everything leads to the list of exporters; sensors and the agent's version change no result.
    assert not found & (has_not | {"export/exporters.py", "agent/telemetry/sampler.py", "agent/__init__.py"})
    assert all(name.startswith(("export/", "agent/")) for name in found)
    assert set(sources.hashes(found)) == found


def test_the_code_of_a_device_is_what_reaches_it() -> None:
    assert "devices/ssh.py" in sources.hashes(sources.of_device("raspberry-pi-5", "ssh"))
