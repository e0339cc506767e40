"""How much scores differ by chance."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.search.distillers.noise import Noise, spread


def test_by_hand() -> None:
    """Distances of 0, 1, 3: 1, 2, 3, whose median is 2."""
    assert spread([0.0, 3.0, 1.0]) == pytest.approx(2 * 1.04836)
    assert spread([1.0]) is None and spread([]) is None


def test_of_five_one_that_collapsed_changes_little() -> None:
    """Steady: distances 1, 1, 1, 2, 2, 2, 3, 3, 4, 5 (hundredths); the last at -50: six of ten are of the others."""
    steady, collapsed = [0.00, 0.01, 0.02, 0.03, 0.05], [0.00, 0.01, 0.02, 0.03, -0.50]
    assert spread(steady) == pytest.approx(0.02 * 1.04836)
    assert spread(collapsed) == pytest.approx(0.025 * 1.04836)
    assert np.std(collapsed, ddof=1) > 0.2


@pytest.mark.parametrize(("seeds", "factor"), [(3, 1.299), (5, 1.101), (200, 1.0)])
def test_of_normal_values_it_is_their_deviation(seeds: int, factor: float) -> None:
    """But for the factors of few that the docstring names."""
    rng = np.random.default_rng(0)
    found = [spread(list(map(float, rng.normal(5.0, 2.0, seeds)))) for _ in range(20_000 if seeds < 10 else 20)]
    assert np.mean(np.array(found, float)) == pytest.approx(2.0 * factor, rel=0.02)


def test_what_both_share_is_no_noise() -> None:
    """Seeds that are good or bad for both alike."""
    assert Noise.of([0.3, 0.1, 0.2], [0.2, 0.0, 0.1], 6).deviation == pytest.approx(0.0)
