"""A device that goes away in the middle of a stage: one line, what was measured stays, the same command goes on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekd.devices.remote import RemoteDevice
from tests.devices.phone import Phone
from tests.stages.tiny import edgekd, export, read, short_protocol, snapshot

pytest_plugins = ("tests.stages.whole_run",)

# More than it takes to begin the agent, whose files are there already, and less than what the agent has to tell.
_BYTES = 6000


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with short_protocol():
        yield


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    """One that runs the agent, and `phone.yaml` beside it."""
    found = Phone(tmp_path / "phone")
    monkeypatch.setenv("PATH", f"{found.adb.parent}:{os.environ['PATH']}")
    spec = {"transport": "adb", "runtimes": ["onnxruntime"], "python": sys.executable, "folder": str(found.store)}
    (tmp_path / "phone.yaml").write_text(yaml.safe_dump(spec))
    return found


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what agents on phones have told."""
    told: list[str] = []
    run = RemoteDevice.run

    def noted(self: RemoteDevice, arguments: Any, on_event: Any, **more: Any) -> Any:
        def note(event: dict[str, Any]) -> None:
            told.append(event["event"])
            on_event(event)

        return run(self, arguments, note, **more)

    monkeypatch.setattr(RemoteDevice, "run", noted)
    return told


@pytest.mark.parametrize(("stage", "before"), [("validate", "profile"), ("profile", "validate")])
def test_what_was_measured_stays(
    run: Path, phone: Phone, events: list[str], tmp_path: Path, stage: str, before: str
) -> None:
    devices = json.dumps(["local", str(tmp_path / "phone.yaml")])
    words = (f"devices={devices}", f"export={json.dumps([export('onnx-fp32')])}", "gate={}")
    asked = tuple(part for word in words for part in ("--set", word))
    assert edgekd(before, run, *asked).code == 0
    measured = {name: content for name, content in snapshot(run).items() if name.startswith(("validate/", "profile/"))}
    assert {f"{before}/onnx-fp32@phone.json", f"{stage}/onnx-fp32@local.json"} <= set(measured)

    events.clear()
    phone.is_now(f"dies {_BYTES}")
    ended = edgekd(stage, run, *asked)
    assert "environment" in events and events[-1] != "end"
    assert ended.code == 4
    told = [line for line in ended.err.splitlines() if line != f"{stage}/onnx-fp32@local: unchanged, kept"]
    assert len(told) == 1, ended.err
    assert told[0].startswith("edgekd: error: device phone: cannot be reached (error: device offline); plug it in")
    assert {name: content for name, content in snapshot(run).items() if name in measured} == measured
    assert not (run / f"{stage}/onnx-fp32@phone.json").exists()

    phone.is_now("device")
    again = edgekd(stage, run, *asked)
    assert again.code == 0, again.err
    assert again.kept == [f"{stage}/onnx-fp32@local"]
    assert read(run / f"{stage}/onnx-fp32@phone.json")["device"] == "phone"
