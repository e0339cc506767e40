from __future__ import annotations

from typing import Any

from edgekd.report.pareto import best_artifact, mark_front, pareto_front


def artifact(target: str, ap: float | None, p50: float | None, **more: Any) -> dict[str, Any]:
    base = {"device": "local", "valid": True, "parity": {"passed": True}}
    return {**base, "target": target, "ap": ap, "latency_ms": {"p50": p50}, **more}


def test_front_by_hand() -> None:
    #         fast, poor   slower, better  beaten by 1  slow, best   beaten by 3 (equal AP, slower)
    points = [(1.0, 0.30), (2.0, 0.40), (2.5, 0.35), (4.0, 0.50), (5.0, 0.50)]
    assert pareto_front(points) == [0, 1, 3]


def test_equal_points_stay_together_and_equal_latency_keeps_the_better() -> None:
    assert pareto_front([(2.0, 0.4), (1.0, 0.3), (2.0, 0.4)]) == [1, 0, 2]
    assert pareto_front([(1.0, 0.3), (1.0, 0.5)]) == [1]
    assert pareto_front([]) == []


def test_front_is_per_device_and_leaves_out_what_cannot_be_compared() -> None:
    rows = [
        artifact("a", 0.5, 2.0),
        artifact("b", 0.4, 3.0),
        artifact("c", 0.4, 9.0, device="board"),
        artifact("d", None, 1.0),
        artifact("e", 0.9, None),
        artifact("f", 0.9, 0.1, valid=False),
    ]
    mark_front(rows)
    assert [row["pareto"] for row in rows] == [True, False, True, None, None, None]


def test_best_is_the_fastest_within_the_drop() -> None:
    rows = [artifact("slow", 0.500, 5.0), artifact("quick", 0.496, 2.0), artifact("rash", 0.470, 1.0)]
    assert best_artifact(rows, 0.5, None)["target"] == "quick"  # type: ignore[index]
    assert best_artifact(rows, 0.5, 0.001)["target"] == "slow"  # type: ignore[index]
    assert best_artifact(rows, 0.5, 0.03)["target"] == "rash"  # type: ignore[index]
    assert best_artifact(rows, 0.6, 0.03) is None


def test_best_without_a_student_compares_with_the_best_artifact_and_passes_over_failed_parity() -> None:
    rows = [artifact("a", 0.5, 5.0), artifact("b", 0.499, 2.0), artifact("c", 0.5, 1.0, parity={"passed": False})]
    best = best_artifact(rows, None, None)
    assert best is not None
    assert best["target"] == "b"
    assert best["rule"].endswith("at most 0.005 AP below the best artifact")
    assert best_artifact([], 0.5, None) is None


class TestSpread:
    """Of the processes' medians: what is closer than that is not told apart."""

    def rows(self, spread: float) -> list[dict[str, Any]]:
        return [
            artifact("a", 0.5, 2.0, spread={"p50": 0.01, "p90": 0.9}),
            artifact("b", 0.5, 2.1, spread={"p50": spread, "p90": None}),
            artifact("c", 0.5, 9.0, spread=None),
        ]

    def test_no_artifact_is_the_best_among_those_that_are_closer(self) -> None:
        best = best_artifact(self.rows(0.06), 0.5, None)
        assert best is not None
        assert (best["target"], best["device"], best["tied"]) == (None, None, ["a@local", "b@local"])
        assert best["rule"].endswith(
            "; a@local, b@local are closer than their processes differ, so none of them is called the best"
        )

    def test_one_that_is_faster_by_more_is(self) -> None:
        best = best_artifact(self.rows(0.05), 0.5, None)
        assert best is not None
        assert (best["target"], best["tied"]) == ("a", [])

    def test_the_front_keeps_what_is_closer(self) -> None:
        for spread, front in ((0.06, [True, True, False]), (0.05, [True, False, False])):
            rows = self.rows(spread)
            mark_front(rows)
            assert [row["pareto"] for row in rows] == front

    def test_a_better_one_that_is_no_slower_still_beats(self) -> None:
        assert pareto_front([(2.0, 0.6), (2.1, 0.5)], [0.5, 0.5]) == [0]
