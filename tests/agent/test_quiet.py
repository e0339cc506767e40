"""Waiting for a quiet machine, on given looks at it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from edgekd.agent.protocol import Writer
from edgekd.agent.quiet import wait_for_quiet


class Watch:
    """Two cores, of which others and the host of a virtual machine use given shares, look after look."""

    def __init__(self, *shares: float | None, stolen: float = 0.0) -> None:
        self.shares, self.stolen = list(shares), stolen
        self.slept: list[float] = []

    def take(self) -> dict[str, Any]:
        wall_ns = int(self.slept[-1] * 1e9)
        share = self.shares.pop(0)
        others_ns = None if share is None else share * 2 * wall_ns
        return {"wall_ns": wall_ns, "cores": 2, "others_ns": others_ns, "stolen_ns": self.stolen * 2 * wall_ns}


def waited(cap_s: float, watch: Watch) -> list[dict[str, Any]]:
    stream = io.BytesIO()
    wait_for_quiet(Writer(stream), cap_s, watch, watch.slept.append)  # type: ignore[arg-type]
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_quiet_machine_costs_half_a_second() -> None:
    watch = Watch(0.1)
    assert waited(60, watch) == [{"event": "quiet", "quiet": True, "waited_s": 0.5, "others_share": 0.1}]
    assert watch.slept == [0.5]


def test_it_waits_until_others_are_done() -> None:
    watch = Watch(0.9, 0.5, 0.02)
    assert waited(60, watch) == [
        {"event": "busy", "waited_s": 0.5, "others_share": 0.9},
        {"event": "busy", "waited_s": 2.5, "others_share": 0.5},
        {"event": "quiet", "quiet": True, "waited_s": 4.5, "others_share": 0.02},
    ]


def test_it_waits_no_longer_than_it_may() -> None:
    watch = Watch(1, 1, 1, 0.75)
    assert waited(5, watch)[-1] == {"event": "quiet", "quiet": False, "waited_s": 5.0, "others_share": 0.75}
    assert watch.slept == [0.5, 2, 2, 0.5]


def test_what_the_host_of_a_virtual_machine_takes_counts_too() -> None:
    assert waited(0.5, Watch(0.05, stolen=0.2))[-1]["quiet"] is False


def test_where_nobody_can_tell_it_does_not_wait() -> None:
    watch = Watch(None)
    assert waited(60, watch) == [{"event": "quiet", "quiet": None, "waited_s": 0.5, "others_share": None}]


@pytest.mark.parametrize("cap_s", [0, -1])
def test_nobody_asked(cap_s: float) -> None:
    assert waited(cap_s, Watch()) == []
