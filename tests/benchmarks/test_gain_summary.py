"""What the rows of the gain table say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from gain_summary import table


def row(method: str, seed: int, ap: float, seconds: float = 10.0) -> dict[str, Any]:
    return {"method": method, "weight": 0.0, "seed": seed, "ap": ap, "seconds": seconds}


ROWS = [row("control", 0, 0.2), row("control", 1, 0.3), row("pkd", 0, 0.25, 12.0), row("pkd", 1, 0.37, 14.0)]


def test_means_paired_differences_and_times() -> None:
    first, second = table(ROWS)
    assert (first["method"], first["seeds"], second["method"]) == ("pkd", 2, "control")
    assert first["ap"]["estimate"] == pytest.approx(0.31) and first["minus_control"]["estimate"] == pytest.approx(0.06)
    assert first["time"] == pytest.approx(1.3) and second["minus_control"]["estimate"] == 0


@pytest.mark.parametrize(("ap", "judged"), [(0.5, "yes"), (0.3, "teacher too weak: not judged"), (0.1, None)])
def test_a_teacher_that_is_no_better_than_the_control_teaches_nothing(ap: float, judged: str | None) -> None:
    first, second = table([*ROWS, row("teacher", 0, ap)])
    assert first["judged"] == (judged or "teacher too weak: not judged") and second["judged"] == "yes"
