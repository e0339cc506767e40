"""Shares by hand, and what they say of a measurement."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.measure.contention import UNKNOWN, Contention, contention_of, judge

S = 10**9
LIMIT = 0.1


def span(
    wall: float = 1, ran: float = 2, waited: float | None = 0, others: float | None = 0, **more: Any
) -> dict[str, Any]:
    """Seconds of two cores, both of which the process uses."""
    given = {"wall_ns": wall, "ran_ns": ran, "waited_ns": waited, "others_ns": others}
    given = {"stolen_ns": 0, "pressure_ns": 0, "throttled_ns": None, **given, **more}
    return {"event": "contention", **{key: None if value is None else value * S for key, value in given.items()}} | {
        "cores": 2
    }


def reason(*events: dict[str, Any]) -> list[str]:
    return judge([contention_of(events)], LIMIT)[0]


def test_shares_by_hand() -> None:
    events = [
        {"event": "samples"},
        span(wall=1, ran=0.5, waited=1.0, others=1.2, stolen_ns=0.1, pressure_ns=0.9, throttled_ns=0.2),
        span(wall=3, ran=1.5, waited=0.2, others=2.0, stolen_ns=0.3, pressure_ns=0.3, throttled_ns=0.0),
    ]
    found = contention_of(events)
    assert found.waited == pytest.approx(1.2 / 3.2)
    assert found.others == pytest.approx(3.2 / 8)
    assert found.stolen == pytest.approx(0.4 / 8)
    assert found.pressure == pytest.approx(1.2 / 4)
    assert found.throttled == pytest.approx(0.2 / 4)
    assert found.others_per_ran == pytest.approx(3.2 / 2)
    assert found.as_json()["waited"] == 0.375


def test_a_quiet_machine() -> None:
    assert judge([contention_of([span(waited=0.06, others=0.1)])] * 3, LIMIT) == ([], [])


def test_a_busy_machine_in_words() -> None:
    busy = contention_of([span(ran=0.39, waited=0.61, others=1.6)])
    quiet = contention_of([span()])
    assert judge([quiet, busy, busy], LIMIT)[0] == [
        "the machine was busy: waited 61% of the time for a core; others used 1.6 of 2 cores (process 2, 3 of 3)"
    ]


@pytest.mark.parametrize(("waited", "busy"), [(0.22, False), (0.23, True)])
def test_the_limit_is_of_the_time_in_which_it_could_have_run(waited: float, busy: bool) -> None:
    assert bool(reason(span(ran=2, waited=waited, others=1))) is busy  # 0.222 of 2.222 is a tenth


def test_load_beside_a_free_core_makes_nobody_wait() -> None:
    assert reason(span(ran=1, waited=0.01, others=1.0)) == []


def test_threads_that_wait_for_one_another_are_noted() -> None:
    invalid, notes = judge([contention_of([span(ran=2, waited=6, others=0.05)])], LIMIT)
    assert (invalid, notes) == (
        [], ["its threads waited 75% of the time for one another: they are more than the cores"],
    )  # fmt: skip
    assert reason(span(ran=2, waited=6, others=0.5)) != []
    assert reason(span(ran=2, waited=6, others=None)) == [
        "the machine was busy: waited 75% of the time for a core (process 1 of 1)"
    ]


def test_a_quota_holds_back_as_others_do() -> None:
    assert reason(span(ran=0.5, waited=0.5, others=0.0, throttled_ns=0.4)) == [
        "the machine was busy: waited 50% of the time for a core; others used 0.0 of 2 cores, a quota stopped it for"
        " 40% (process 1 of 1)"
    ]


def test_the_host_of_a_virtual_machine() -> None:
    assert reason(span(stolen_ns=0.5)) == [
        "the machine was busy: the host of this virtual machine took 25% of its time (process 1 of 1)"
    ]
    assert reason(span(stolen_ns=0.2)) == []


def test_what_nobody_can_tell_is_said() -> None:
    assert judge([Contention(), Contention()], LIMIT) == ([], [UNKNOWN])
    assert contention_of([span(), span(waited=None)]).waited is None
    assert contention_of([{"event": "samples"}]) == Contention()
