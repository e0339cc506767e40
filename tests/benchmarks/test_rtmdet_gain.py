"""What the benchmark of MKD against CWD makes of the runs' figures, by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("rtmdet_gain", BENCHMARKS / "rtmdet_gain.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("paired", None)


def run(students: list[float], controls: list[float] | None = None, teacher: float = 0.5) -> dict[str, Any]:
    of_control: list[float] | list[None] = controls or [None] * len(students)
    rows = [{"control_ap": c, "student_ap": s} for s, c in zip(students, of_control, strict=True)]
    return {"seeds": rows, "models": {"teacher": {"ap": teacher}}}


@pytest.mark.parametrize(("teacher", "verdict"), [(0.5, None), (0.2, "teacher too weak: not judged")])
def test_differences_of_the_same_seeds(benchmark: Any, teacher: float, verdict: str | None) -> None:
    found = benchmark.report({
        "mkd": run([0.3, 0.5], [0.1, 0.2], teacher), "cwd": run([0.2, 0.4]), "mkd auto": run([0.2, 0.2]),
        "cwd auto": run([0.2, 0.3]),
    })  # fmt: skip
    assert found["verdict"] == verdict
    assert found["minus_control"]["mkd"]["mean"] == pytest.approx(0.25)
    assert found["minus_control"]["cwd"]["mean"] == pytest.approx(0.15)
    pairs = found["mkd_minus_cwd"]
    assert (pairs["mkd"]["mean"], pairs["mkd auto"]["mean"]) == pytest.approx((0.1, -0.05))
    assert pairs["mkd auto"]["differences"] == pytest.approx((0.0, -0.1))
    low, high = pairs["mkd auto"]["low"], pairs["mkd auto"]["high"]
    assert (low + high) / 2 == pytest.approx(-0.05)
    assert (high - low) / 2 == pytest.approx(12.706 * 0.05, rel=1e-3)  # t of one degree of freedom
