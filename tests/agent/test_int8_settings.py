"""Exact 8-bit sums are asked for where the fast ones overflow, and nowhere else."""

from pathlib import Path

import pytest

from edgekd.agent.runtimes import onnxruntime_runtime, open_model
from edgekd.testing.artifacts import write_artifact

WITHOUT_VNNI = "flags\t\t: fpu sse4_1 sse4_2 avx avx2 avx512f avx512bw\n"
WITH_VNNI = "flags\t\t: fpu sse4_1 sse4_2 avx avx2 avx512f avx512_vnni\n"
ARM = "Features\t: fp asimd aes crc32 asimddp\n"


@pytest.mark.parametrize(
    ("text", "precision", "sums"),
    [
        (WITHOUT_VNNI, "int8", "exact, slower"),
        (WITHOUT_VNNI, "fp32", "default"),
        (WITH_VNNI, "int8", "default"),
        (ARM, "int8", "default"),
        (None, "int8", "default"),
    ],
)
def test_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, precision: str, sums: str) -> None:
    info = tmp_path / "cpuinfo"
    if text is not None:
        info.write_text(text)
    monkeypatch.setattr(onnxruntime_runtime, "_CPU_INFO", info)
    path = write_artifact(tmp_path / "model") / "model.onnx"
    assert open_model("onnxruntime", path, 1, precision).options["int8_sums"] == sums
