"""Candidates and results, made up."""

from __future__ import annotations

from edgekd.export.contract import TargetSpec
from edgekd.export.targets import load_target
from edgekd.search.facts import Facts
from edgekd.search.students import Candidate
from edgekd.search.verdicts import Result


def target(name: str = "onnx-fp32") -> TargetSpec:
    return load_target(name, {}, name)


def candidate(
    model: str = "yolo11n", size_px: int = 640, target_name: str = "onnx-fp32", *,
    gflops: float = 6.5, parameters: int = 2_600_000, coco_ap: float | None = None,
) -> Candidate:  # fmt: skip
    return Candidate(model, size_px, target(target_name), Facts(parameters, gflops), coco_ap)


def measured(p50_ms: float, p90_ms: float | None = None, **more: float) -> Result:
    return Result("measured", p50_ms=p50_ms, p90_ms=p50_ms * 1.1 if p90_ms is None else p90_ms, **more)
