"""From files of sysfs through the agent to energy per inference and a verdict."""

import io
import json
import subprocess
import sys
from functools import partial

import pytest

from edgekd.agent import __main__ as agent
from edgekd.agent import pipeline, profile
from edgekd.agent.protocol import Reader, Writer
from edgekd.agent.telemetry import Contention, Sampler, snapshot
from edgekd.devices.agent_archive import build
from edgekd.measure.latency import Protocol
from edgekd.measure.latency_events import summarise_events
from edgekd.testing.artifacts import write_artifact, write_pack
from tests.agent.telemetry import boards

SHORT = Protocol("short", 1, warmup_seconds=0, min_count=1, min_seconds=0.1, needs_steady=False)


def profiled(tmp_path, monkeypatch, interval_s):
    """Events of a profile on a quiet Jetson made of files, where the warm-up becomes steady at once."""
    root = boards.quiet(boards.jetson(tmp_path / "board"))
    monkeypatch.setattr(profile, "Contention", partial(Contention, root))
    monkeypatch.setattr(profile, "warm_up", lambda step, *_: {"steady": True, "first_ns": step()})
    monkeypatch.setattr(profile, "Sampler", partial(Sampler, root=root))
    monkeypatch.setattr(pipeline.telemetry, "snapshot", partial(snapshot, root, ask=None))
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    arguments = agent.parser().parse_args([
        "profile", "--artifact", str(artifact), "--pack", str(pack), "--frame", "24x32", "--min-seconds", "0.3",
        "--min-count", "1", "--warmup-seconds", "0.05", "--warmup-cap-seconds", "0.1",
        "--telemetry-seconds", interval_s,
    ])  # fmt: skip
    stream = io.BytesIO()
    profile.profile(arguments, Writer(stream))
    reader = Reader()
    return [reader.feed(line) for line in stream.getvalue().splitlines(keepends=True)]


def test_energy_and_verdict_of_a_profile(tmp_path, monkeypatch):
    events = profiled(tmp_path, monkeypatch, "0.05")
    assert events[0]["telemetry_every_seconds"] == 0.05
    content = summarise_events([events], protocol=SHORT, target="tiny", device="board")
    mean_ms = content["latency_ms"]["end_to_end"]["mean"]
    assert content["energy_mj_per_inference"] == pytest.approx(6000 * mean_ms / 1e3)
    assert content["energy"]["rails_mw"] == {"VDD_IN": 6000, "VDD_SOC": 1240}
    assert content["energy"]["samples"] >= 2  # at the start and at the end, however busy the machine is
    assert content["temperature_c"] == {"start": 41.5, "max": 41.5}
    assert content["invalid_reasons"] == ["process 1: VDD_IN crit: alarm of the power monitor"]
    assert content["notes"] == ["floating clocks (730 to 1510 MHz)"]
    assert content["contention"][0]["waited"] == 0
    assert content["environment"]["telemetry"]["absent"]["pi_throttled"] == "no Raspberry Pi firmware in sysfs"


def test_sampling_can_be_switched_off(tmp_path, monkeypatch):
    events = profiled(tmp_path, monkeypatch, "0")
    assert events[0]["telemetry_every_seconds"] is None
    assert [event for event in events if "samples" in event and event["event"] == "telemetry"] == []
    content = summarise_events([events], protocol=SHORT, target="tiny", device="board")
    assert content["energy"]["reason"] == "no power sensor was read"


def test_the_state_of_this_machine(tmp_path):
    command = [sys.executable, "-I", str(build(tmp_path)), "state"]
    lines = subprocess.run(command, capture_output=True, timeout=300, check=True).stdout.splitlines()
    state, end = map(json.loads, lines)
    assert (state["event"], end["event"]) == ("telemetry", "end")
    assert state["telemetry"]["load_1min"] >= 0
    assert {key for key, value in state["telemetry"].items() if value is None} == set(state["telemetry"]["absent"])
