"""Progress goes to standard error: bars for people, sparse plain lines for logs."""

from __future__ import annotations

import io

import pytest

from edgekd import progress as module
from edgekd.forecast import Forecast, Part
from edgekd.progress import Event, foreseen, listening, progress, say, tell


class Clock:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    return clock


def test_what_is_quick_is_not_spoken_of(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("packing", 3) as advance:
        for _ in range(3):
            clock.now += 0.6
            advance()
    assert capsys.readouterr() == ("", "")


def test_plain_lines_are_sparse_and_say_what_is_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("packing", 40) as advance:
        for _ in range(40):
            clock.now += 1
            advance(note="loss 1.50")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "packing: 10/40, about 30 s left loss 1.50",
        "packing: 20/40, about 20 s left loss 1.50",
        "packing: 30/40, about 10 s left loss 1.50",
        "packing: 40/40 in 40 s",
    ]


def test_lines_say_what_is_left_of_the_whole_run(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """The training takes what was expected; behind it comes a stage of 300 s."""
    events: list[Event] = []
    run = Forecast([Part("student", "train", 40.0), Part("report", "end", 300.0)])
    with listening(events.append), foreseen(run):
        tell(Event("stage", "student", "begins"))
        with progress("training", 40, round_steps=40) as advance:
            for _ in range(40):
                clock.now += 1
                advance()
        tell(Event("stage", "student", "ends"))
    assert capsys.readouterr().err.splitlines()[1] == "training: 20/40, about 20 s left (whole run 5 min)"
    lefts = [(event.left_s, event.run_left_s) for event in events if event.kind == "progress"]
    assert lefts[19] == (20.0, pytest.approx(320.0))
    assert lefts[-1] == (0.0, pytest.approx(300.0))


def test_several_steps_at_once_and_none(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("cooling", 100) as advance:
        clock.now += 11
        advance(0, "cooling down")
        clock.now += 11
        advance(50)
    assert capsys.readouterr().err.splitlines()[1:] == ["cooling: 50/100, about 22 s left", "cooling: 50/100 in 22 s"]


def test_what_was_done_before_says_nothing_of_the_rest(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("profile", 100, done=90) as advance:
        clock.now += 12
        advance(2)
        clock.now += 36
        advance(8)
    assert capsys.readouterr().err.splitlines() == [
        "profile: 92/100, about 48 s left",
        "profile: 100/100 in 48 s",
    ]


def test_a_training_that_was_resumed_beside_a_load(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Step 12 of 20 takes 40 s instead of 1 s."""
    with progress("training", 20, done=10, round_steps=10) as advance:
        for passed in (11, 1, 40, 1, 1, 1, 1, 1, 1, 1):
            clock.now += passed
            advance(note="loss 1.50")
    assert capsys.readouterr().err.splitlines() == [
        "training: 11/20, about 99 s left loss 1.50",
        "training: 13/20, about 77 s left loss 1.50",
        "training: 20/20 in 59 s",
    ]


def test_an_error_ends_it_without_a_last_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), progress("packing", 2) as advance:
        clock.now += 5
        advance()
        raise ZeroDivisionError
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with progress("packing", 5, done=2) as advance:
        advance(note="loss 1.50")
        advance(note="loss 1.40")
    shown = terminal.getvalue()
    assert "packing" in shown
    assert "4/5" in shown
    assert "about 0 s left loss 1.40" in shown
    assert capsys.readouterr().out == ""


def test_say(capsys: pytest.CaptureFixture[str]) -> None:
    say("gate: pass")
    assert capsys.readouterr() == ("", "gate: pass\n")
