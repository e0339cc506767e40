"""Estimates of the time that is left, told of steps by a clock that the test turns."""

from __future__ import annotations

import pytest

from edgekd.pace import Mean, Rounds, in_words


class Loop:
    """Steps of a training of `rounds` epochs."""

    def __init__(self, round_steps: int, rounds: int, done: int = 0) -> None:
        self.now, self.done, self.total = 1000.0, done, round_steps * rounds
        self.estimate = Rounds(self.now, round_steps, done)

    def step(self, *seconds: float) -> None:
        for one in seconds:
            self.now += one
            self.done += 1
            self.estimate.tell(self.now, 1)

    @property
    def left_s(self) -> float | None:
        return self.estimate.left_s(self.total - self.done)


def test_nothing_is_known_before_the_first_step() -> None:
    assert Loop(10, 2).left_s is None
    assert Mean(0).left_s(5) is None


def test_pauses_count_as_often_as_they_are_to_come() -> None:
    """Steps of 1 s; validation takes 5 s, before the first step of the next round is over."""
    loop = Loop(round_steps=10, rounds=4)
    loop.step(*[1.0] * 10)
    assert loop.left_s == 30, "no pause was seen yet"
    loop.step(6.0)
    assert loop.left_s == 29 + 2 * 5
    loop.step(*[1.0] * 9)
    assert loop.left_s == 20 + 2 * 5, "at the end of a round its pause is still to come"
    loop.step(6.0, *[1.0] * 9, 6.0, *[1.0] * 8)
    assert loop.left_s == 1
    loop.step(1.0)
    assert loop.left_s == 0


def test_steps_before_a_resume_say_nothing() -> None:
    """95 of 100 steps were done by another process; the first one here takes long, since all is warmed up again."""
    loop = Loop(round_steps=10, rounds=10, done=91)
    loop.step(9.0, 2.0, 2.0)
    assert loop.left_s == 6 * 2.0


def test_a_load_for_a_while_moves_nothing() -> None:
    loop = Loop(round_steps=1000, rounds=10)
    loop.step(*[1.0] * 300)
    before = loop.left_s
    for _ in range(80):
        loop.step(60.0)
        assert loop.left_s == pytest.approx(loop.total - loop.done)
    assert before == 9700


def test_a_load_that_stays_is_noticed() -> None:
    loop = Loop(round_steps=1000, rounds=10)
    loop.step(*[1.0] * 300, *[3.0] * 150)
    assert loop.left_s == 3 * (loop.total - loop.done)


def test_one_long_validation_is_not_the_rule() -> None:
    loop = Loop(round_steps=2, rounds=10)
    loop.step(1.0, 1.0, 4.0, 1.0, 4.0, 1.0, 100.0, 1.0, 4.0)
    assert loop.left_s == 11 + 5 * 3


def test_the_mean_counts_what_passes_between_steps() -> None:
    mean = Mean(0)
    mean.tell(11, 0)
    mean.tell(22, 50)
    assert mean.left_s(50) == 22


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (45.4, "45 s"), (119, "119 s"), (120, "2 min"), (600, "10 min"), (7199, "2 h 0 min"),
     (12_000, "3 h 20 min"), (400_000, "111 h 7 min")],
)  # fmt: skip
def test_in_words(seconds: float, text: str) -> None:
    assert in_words(seconds) == text
