"""Steps that leave ONNX for a converter, with the real ones: what they make of students, on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import EdgekdError, EnvironmentFault
from edgekd.export import coreml_from_onnx, executorch_from_onnx, litert_from_onnx, parity, targets
from edgekd.export.environment import Requirements
from tests.export.students import photographs, source, target
from tests.export.test_mobile import material


def _ready(needs: Requirements) -> bool:
    return (needs.folder / "edgekd-environment.json").is_file()


def _exported(name: str, tmp_path: Path, head: str | None = None, **overrides: Any) -> dict[str, Any]:
    """Parity of a real student after a real conversion."""
    student = source("yolo26p" if head else "yolo11p", head)
    spec = target(name, **overrides)
    artifact = targets.run_steps(student, spec, tmp_path / name, material())
    return parity.require(student.module, artifact, photographs(2, 64, 96), spec)


@pytest.mark.slow
class TestForReal:
    """About 10 s for ncnn, which installs 30 MB; a minute each for the others, whose environment must be there."""

    def test_ncnn(self, tmp_path: Path) -> None:
        pytest.importorskip("ncnn", reason="the package ncnn is not installed")
        try:
            record = _exported("ncnn-fp16", tmp_path)
        except EnvironmentFault as error:
            pytest.skip(f"no environment: {error}")
        assert record["passed"]
        assert record["max_abs_score"] < 0.002
        with pytest.raises(EdgekdError, match="ncnn-fp16: ncnn has no layer for GatherElements, "):
            _exported("ncnn-fp16", tmp_path, "one2one")
        assert [path.name for path in tmp_path.iterdir()] == ["ncnn-fp16"]

    @pytest.mark.skipif(not _ready(litert_from_onnx.NEEDS), reason="the environment litert is not made yet")
    @pytest.mark.parametrize(
        ("name", "head", "limit"),
        [("litert-fp32", None, 1e-5), ("litert-fp32", "one2one", 1e-5), ("litert-fp16", None, 2e-3)],
    )
    def test_litert(self, tmp_path: Path, name: str, head: str | None, limit: float) -> None:
        pytest.importorskip("ai_edge_litert", reason="the package ai_edge_litert is not installed")
        record = _exported(name, tmp_path, head)
        assert record["passed"]
        assert record["max_abs_score"] < limit

    @pytest.mark.skipif(not _ready(litert_from_onnx.NEEDS), reason="the environment litert is not made yet")
    def test_litert_in_8_bits(self, tmp_path: Path) -> None:
        pytest.importorskip("ai_edge_litert", reason="the package ai_edge_litert is not installed")
        tolerance = {"min_matched": 0.5}  # a network of random weights is a hard one for 8 bits
        record = _exported("litert-int8", tmp_path, tolerance=tolerance)
        sizes = [(tmp_path / name / "model.tflite").stat().st_size for name in ("litert-int8",)]
        assert record["max_abs_score"] > 1e-4
        assert sizes[0] < 1_500_000

    @pytest.mark.skipif(not _ready(executorch_from_onnx.NEEDS), reason="the environment executorch is not made yet")
    @pytest.mark.parametrize("head", [None, "one2one"])
    def test_executorch(self, tmp_path: Path, head: str | None) -> None:
        assert _exported("executorch-xnnpack", tmp_path, head)["passed"] is None

    @pytest.mark.skipif(not _ready(coreml_from_onnx.NEEDS), reason="the environment coreml is not made yet")
    @pytest.mark.parametrize("head", [None, "one2one"])
    def test_coreml(self, tmp_path: Path, head: str | None) -> None:
        assert _exported("coreml", tmp_path, head)["passed"] is None
        assert (tmp_path / "coreml" / "model.mlpackage.zip").stat().st_size < 3_000_000
