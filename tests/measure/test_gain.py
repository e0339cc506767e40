import pytest

from edgekd.measure.gain import gap_closed, normalised_gain


def test_by_hand() -> None:
    assert normalised_gain(0.30, 0.24) == pytest.approx(0.25)
    assert normalised_gain(0.18, 0.24) == pytest.approx(-0.25)
    assert normalised_gain(0.1, 0.0) is None
    assert gap_closed(0.30, 0.24, 0.48) == pytest.approx(0.25)
    assert gap_closed(0.30, 0.24, 0.24) is None and gap_closed(0.30, 0.24, None) is None
