"""Rounds in random order, and ratios within them."""

from __future__ import annotations

from typing import Any

from edgekd.measure import rounds


def test_ratio_is_the_median_of_ratios_within_rounds() -> None:
    found = rounds.ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0])
    assert found["median"] == 3.0
    assert 2.0 <= found["low"] <= 3.0 <= found["high"] <= 4.0
    assert rounds.ratio([3.0] * 5, [2.0] * 5) == {"median": 1.5, "low": 1.5, "high": 1.5}


def test_extra_is_the_median_of_what_is_added_within_rounds() -> None:
    found = rounds.extra([5.0, 60.0, 9.0], [4.0, 40.0, 5.0], [2.0, 20.0, 4.0])
    assert found["median"] == 1.0
    assert 0.5 <= found["low"] <= found["high"] <= 1.0


def test_each_round_times_each_variant_once_in_changing_order() -> None:
    calls: list[str] = []

    def variant(name: str) -> Any:
        return lambda: calls.append(name) or len(calls)

    times = rounds.interleave({name: variant(name) for name in "abc"}, 20)
    found = [tuple(calls[start : start + 3]) for start in range(0, 60, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in found)
    assert len(set(found)) > 3
    assert [calls[int(position) - 1] for position in times["b"]] == ["b"] * 20


def test_after_each_round_all_times_so_far_are_told() -> None:
    told: list[tuple[int, dict[str, list[float]]]] = []
    rounds.interleave(
        {"a": lambda: 1.0, "b": lambda: 2.0}, 2, told=lambda number, times: told.append((number, {**times}))
    )
    assert [number for number, _ in told] == [1, 2]
    assert told[-1][1] == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
