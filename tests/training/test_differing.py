"""What differs is shown, however much in front of it is equal."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.training.differing import LATER, differences, in_words

NAMES = [f"class {number}" for number in range(80)]
TAPS = [{"role": "neck", "path": f"model.{layer}", "stride": stride} for layer, stride in ((16, 8), (19, 16))]


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (1, 2, "key (1, now 2)"),
        ([8, 16], [8], "key ([8, 16], now [8])"),
        (None, "cat", "key (none, now cat)"),
        (NAMES, [*NAMES[:62], "boat", *NAMES[63:]], "key[62] (class 62, now boat)"),
        (NAMES, NAMES[:-1], "key[79] (class 79, now none)"),
        (TAPS, [TAPS[0], {**TAPS[1], "stride": 32}], "key[1].stride (16, now 32)"),
        ("a" * 64, "b" * 64, f"key ({'a' * 37}..., now {'b' * 37}...)"),
        (f"/x/{'dir/' * 20}one.pt", f"/x/{'dir/' * 20}a.pt", "key (...r/dir/dir/one.pt, now ...r/dir/dir/a.pt)"),
        ("a" * 60, "a" * 50, f"key (...{'a' * 20}, now ...{'a' * 10})"),
    ],
)  # fmt: skip
def test_both_values_are_short_and_differ(then: Any, now: Any, said: str) -> None:
    assert in_words(differences({"key": then}, {"key": now})) == said


def test_what_is_not_known_yet_differs_from_nothing() -> None:
    assert differences({"a": 1, "b": {"c": 2}}, {"a": LATER, "b": {"c": 3}, "d": LATER}) == {"b.c": (2, 3)}
