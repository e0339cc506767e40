"""What is left of a whole run, told by a clock that the test turns."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from edgekd.forecast import Forecast, Part


def forecast(control: float = 100.0, student: float = 200.0) -> Forecast:
    return Forecast([Part("teacher", "torch", 10.0), Part("control", "train", control),
                     Part("student", "train", student), Part("report", "end", 5.0)])  # fmt: skip


def test_at_first_it_is_the_sum() -> None:
    assert forecast().left_s(0.0, None) == 315


def test_what_was_kept_takes_no_time() -> None:
    run = forecast()
    run.told("teacher", "kept", 0.0)
    run.told("control", "kept", 0.0)
    assert run.left_s(0.0, None) == 205


def test_time_that_passes_within_a_stage_is_counted() -> None:
    run = forecast()
    run.told("teacher", "begins", 0.0)
    assert run.left_s(0.0, None) == 315
    assert run.left_s(4.0, None) == pytest.approx(311)
    assert run.left_s(60.0, None) == pytest.approx(305, abs=10), "longer than expected: nothing is left of it"


def test_trainings_are_misjudged_alike() -> None:
    """The control took twice as long: so will the student. 10 s of belief stand beside what was seen."""
    run = forecast()
    run.told("control", "begins", 0.0)
    run.told("control", "ends", 200.0)
    assert run.left_s(200.0, None) == 10 + 200 * (200 + 10) / (100 + 10) + 5


def test_a_training_speaks_for_those_behind_it_while_it_goes_on() -> None:
    """Half of it took 100 s in place of 50: 100 more, and twice as long for the student."""
    run = forecast()
    run.told("teacher", "kept", 0.0)
    run.told("control", "begins", 0.0)
    assert run.left_s(100.0, 100.0, is_training=True) == pytest.approx(100 + 200 * 110 / 60 + 5)


def test_the_share_that_an_earlier_process_did_is_not_counted() -> None:
    """Of 100 s, 80 were done before; the rest takes the 20 s that were expected, so the student is as expected."""
    run = forecast()
    run.told("teacher", "kept", 0.0)
    run.told("control", "begins", 0.0)
    run.goes_on(0.8)
    assert run.left_s(10.0, 10.0, is_training=True) == pytest.approx(10 + 200 + 5)
    run.told("control", "ends", 20.0)
    assert run.left_s(20.0, None) == pytest.approx(205)


def test_a_loop_outside_a_stage_is_part_of_the_next_one() -> None:
    """Stage knowledge works before it is written down."""
    run = Forecast([Part("knowledge", "knowledge", 60.0), Part("report", "end", 5.0)])
    assert run.left_s(0.0, None) == 65
    run = Forecast([Part("knowledge", "knowledge", 60.0), Part("report", "end", 5.0)])
    assert run.left_s(0.0, 90.0) == 95


def test_nothing_is_left_but_the_loop() -> None:
    run = Forecast([])
    assert run.left_s(0.0, 7.0) == 7
    assert run.left_s(1.0, None) == pytest.approx(6, abs=0.3)


def test_it_does_not_jump() -> None:
    """The machine is three times as slow as expected: what is told rises slowly, and is right in the end."""
    run, now = forecast(1000, 2000), 0.0
    run.told("teacher", "kept", now)
    told = [run.left_s(now, None)]
    for stage, seconds in (("control", 3000.0), ("student", 6000.0)):
        run.told(stage, "begins", now)
        began = now
        while now < began + seconds:
            now += 10
            told.append(run.left_s(now, began + seconds - now, is_training=True))
        run.told(stage, "ends", now)
    largest = max(abs(after - (before - 10)) for before, after in pairwise(told))
    assert told[0] == 3005
    assert largest < 0.28 * 6000 * -math.expm1(-10 / 30), "never more than a small part of what it was wrong by"
    assert told[-1] == pytest.approx(5, abs=5)
    halfway = len(told) // 2
    assert told[halfway] == pytest.approx(9000 - 10 * halfway, rel=0.05), "right once it has seen enough"
