from __future__ import annotations

import pytest

from edgekd.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"), (0, "0"), (0.12345, "0.123"), (1.2345, "1.23"), (9.996, "10.0"), (12.34, "12.3"), (99.96, "100"),
        (1234.4, "1234"), (0.00031, "0.000310"), (2.1e-06, "2.10e-06"), (-0.4, "−0.400"),
    ],
)  # fmt: skip
def test_three_significant_digits(value: float | None, text: str) -> None:
    assert numbers.digits(value) == text


def test_ap_gain_size_and_time() -> None:
    assert numbers.ap(0.48249) == "0.482"
    assert numbers.ap(0.0) == "0.000"
    assert numbers.ap(None) == "—"
    assert [numbers.signed(gain) for gain in (0.0234, -0.0234, 0.0001, None)] == ["+0.023", "−0.023", "0.000", "—"]
    assert numbers.megabytes(5_210_000) == "5.21 MB"
    assert [numbers.count(n) for n in (20, 812_345, 999_900, 2_591_010)] == ["20", "812 k", "1.00 M", "2.59 M"]
    assert [numbers.seconds(s) for s in (41.2, 460, 7500)] == ["41 s", "7 min 40 s", "2 h 5 min"]
    assert numbers.percent(0.004) == "0.40 %"


def test_budgets_are_written_by_their_metric() -> None:
    assert numbers.of_metric("max_p90_ms", 10) == "10.0 ms"
    assert numbers.of_metric("min_ap", 0.45) == "0.450"
    assert numbers.of_metric("min_ap", None) == "—"


def test_nested_records_become_flat_pairs() -> None:
    record = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}], "f": {}}
    assert numbers.flat(record) == [("a.b", "1"), ("a.c", "1, 2"), ("d[0].e", "—"), ("f", "—")]
