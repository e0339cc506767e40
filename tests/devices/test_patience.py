"""How long all measurements on a device may wait for quiet, together."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.devices import run_agent
from edgekd.devices.patience import Patience
from edgekd.measure.latency import Protocol
from tests.devices.test_run_agent import FakeDevice


def quiet(waited_s: float, is_quiet: bool | None, share: float | None = 0.8) -> list[dict[str, Any]]:
    return [{"event": "quiet", "quiet": is_quiet, "waited_s": waited_s, "others_share": share}, {"event": "end"}]


def test_a_look_costs_nothing_and_a_wait_what_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    patience = Patience("device pi", 60)
    assert patience.arguments() == ["--quiet-seconds", "60"]
    patience.use(quiet(0.5, is_quiet=True, share=0.01))
    assert patience.left_s == 60
    patience.use(quiet(12.5, is_quiet=True, share=0.01))
    assert patience.arguments() == ["--quiet-seconds", "47.5"]
    patience.use(quiet(47.6, is_quiet=False))
    assert patience.arguments() == []
    assert capsys.readouterr().err == "device pi: not quiet after 60 s (80% of its cores are in use): measuring\n"


def test_where_nobody_can_tell_it_is_not_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    patience = Patience("device phone", 60)
    patience.use(quiet(0.5, is_quiet=None, share=None))
    assert patience.arguments() == []
    assert capsys.readouterr().err == ""


def test_no_patience_asks_for_none() -> None:
    assert Patience("device pi", 0).arguments() == []


def test_processes_share_it(tmp_path: Any) -> None:
    busy = {"event": "busy", "waited_s": 30.5, "others_share": 0.9}
    device = FakeDevice([busy, *quiet(40, is_quiet=True)])
    rules = Protocol("mine", 3, warmup_seconds=0.5, min_count=1, min_seconds=1, needs_steady=False)
    run_agent.profile(
        device, tmp_path / "x", tmp_path / "pack.npy", protocol=rules, threads=1, patience=Patience("device fake", 60)
    )
    asked = [run[run.index("--quiet-seconds") + 1] if "--quiet-seconds" in run else None for run in device.runs]
    assert asked == ["60", "20", None]
