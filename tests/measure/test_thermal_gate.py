import pytest

from edgekd.measure.thermal_gate import Gate, decide


@pytest.mark.parametrize(
    ("gate", "waited_s", "hottest_c", "first_c", "action", "reason"),
    [
        (Gate(None), 0, 99.0, None, "start", "no limit is set"),
        (Gate(None, pause_s=60), 30, 40.0, 40.0, "wait", "pause of 60 s"),
        (Gate(None, pause_s=60), 60, 40.0, 40.0, "start", "no limit is set"),
        (Gate(50, pause_s=60), 0, 45.0, None, "start", "45.0 C, at most 50.0 C"),  # the first has no pause
        (Gate(50), 0, 55.0, None, "wait", "55.0 C, waiting for 50.0 C"),
        (Gate(50), 600, 55.0, None, "too_hot", "55.0 C after 600 s, above 50 C"),
        (Gate(50), 0, 44.0, 40.0, "wait", "44.0 C, waiting for 43.0 C"),  # not back yet
        (Gate(50), 0, 43.0, 40.0, "start", "43.0 C, at most 43.0 C"),
        (Gate(50), 600, 44.0, 40.0, "start", "44.0 C after 600 s, warmer than the first start (40.0 C)"),
        (Gate(50), 0, 51.0, 49.0, "wait", "51.0 C, waiting for 50.0 C"),
        (Gate(50), 0, None, None, "start", "the temperature is not told"),
    ],
)
def test_decisions(gate, waited_s, hottest_c, first_c, action, reason):
    assert decide(gate, waited_s=waited_s, hottest_c=hottest_c, first_c=first_c) == (action, reason)
