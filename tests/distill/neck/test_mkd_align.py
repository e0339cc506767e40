from __future__ import annotations

import math

import pytest

from ..helpers import build, random_output, spec, terms

SIDE = spec("a", (6, 6))


def test_value_by_hand() -> None:
    """Four positions, teacher (1/2, 1/6, 1/6, 1/6), student a quarter each; the same in every channel and image."""
    side = spec("a", (4,), (16,))
    student, teacher = (random_output(side, seed=seed) for seed in range(2))
    student.taps["neck.16"].data.zero_()
    teacher.taps["neck.16"].data.zero_()
    teacher.taps["neck.16"].data[..., 0, 0] = math.log(3.0)
    expected = 1 / 2 * math.log(2.0) + 3 / 6 * math.log(4 / 6)
    method = build("mkd_align", side, side, normalise="none")
    assert terms(method, student, teacher)["feature"].item() == pytest.approx(expected, rel=1e-5)


def test_is_cwd_behind_the_aligner() -> None:
    """One code: the same value as `cwd` with normalise: channel, and as plain `cwd` without."""
    student, teacher = random_output(SIDE), random_output(SIDE, seed=1)
    for keys in ({"normalise": "channel"}, {"normalise": "none"}):
        for tau in (1.0, 3.0):
            ours, theirs = (build(name, SIDE, SIDE, tau=tau, **keys) for name in ("mkd_align", "cwd"))
            theirs.load_state_dict(ours.state_dict())
            assert terms(ours, student, teacher)["feature"].item() == terms(theirs, student, teacher)["feature"].item()


def test_normalised_by_default() -> None:
    assert build("mkd_align", SIDE, SIDE).config.normalise == "channel"  # type: ignore[attr-defined]


def test_zero_at_identity() -> None:
    output = random_output(SIDE)
    plain = build("mkd_align", SIDE, SIDE, normalise="none")
    assert terms(plain, output, output)["feature"].item() == pytest.approx(0.0, abs=1e-6)
