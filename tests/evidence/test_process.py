"""A process of its own: what it had kept stays, however it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.evidence import process
from edgekd.evidence.contract import Setting
from edgekd.evidence.scale import MINIATURE
from tests.evidence.made import MACHINE
from tests.processes import ends

SETTING = Setting(MACHINE, "local", MINIATURE)
KEPT = """
import json, os, signal, sys, time
folder = sys.argv[1]
open(folder + "/figures.json", "w").write(json.dumps({"figures": {"ap": 0.5, "pid": os.getpid()}, "shows": []}))
"""


def ended(monkeypatch: pytest.MonkeyPatch, program: str, limit_s: float = 20.0) -> process.Ended:
    monkeypatch.setattr(process, "_PROGRAM", KEPT + program)
    return process.do("any", SETTING, {}, limit_s)


def test_a_crash_loses_only_what_was_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ended(monkeypatch, "print('going down'); sys.stdout.flush(); os.kill(os.getpid(), signal.SIGKILL)")
    assert (found.status, found.figures["ap"]) == ("failed", 0.5)
    assert found.reason is not None
    assert found.reason.startswith("killed by SIGKILL (")
    assert "going down" in found.reason


def test_a_hang_is_ended_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import subprocess
child = subprocess.Popen(["sleep", "600"]).pid
open(folder + "/figures.json", "w").write(json.dumps({"figures": {"ap": 0.5, "child": child}, "shows": []}))
time.sleep(600)
"""
    found = ended(monkeypatch, program, limit_s=10.0)
    assert (found.status, found.figures["ap"], found.reason) == ("cut", 0.5, "its 10 s were up")
    assert ends(found.figures["child"])


def test_a_silent_end_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(monkeypatch, "sys.exit(3)").reason == "ended with exit code 3"


def test_what_it_says_of_its_end_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
open(folder + "/end.json", "w").write(json.dumps({"status": "failed", "reason": "no", "device_gone": True}))
"""
    found = ended(monkeypatch, program)
    assert (found.status, found.reason, found.device_gone) == ("failed", "no", True)


def test_nothing_is_left_on_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
    ended(monkeypatch, "open(os.environ['EDGEKD_CACHE'], 'w').write('x')")
    assert list(tmp_path.iterdir()) == []
