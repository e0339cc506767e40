"""Phones, through a stand-in that repeats what adb was seen to do (`adb_stand_in.py`); no phone took part."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent.lock import held
from edgekd.devices import remote, store
from edgekd.devices.adb import AdbChannel
from edgekd.devices.contract import AdbSpec, DeviceSpec
from edgekd.devices.faults import DeviceFault
from edgekd.devices.remote import RemoteDevice
from edgekd.devices.tools.drive import profile_by_tool
from edgekd.devices.turn import say_waiting
from tests.devices.loopback import HASTY, PATIENT, fault, run_until
from tests.devices.phone import Phone
from tests.devices.tools import stand_ins


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    return Phone(tmp_path / "phone")


def test_a_plain_phone_cannot_run_the_agent_and_says_what_can_be_used(phone: Phone) -> None:
    with phone.device() as device:
        assert device.facts()["python"] is None
        with fault("python", r"device phone: has no Python for the agent; .*benchmark_model.*Termux.*set `python`", 1):
            device.run(["doctor"], print)


class TestFinding:
    def test_the_only_one_is_taken(self, phone: Phone) -> None:
        with phone.device():
            assert phone.calls()[:3] == ["start-server", "devices", "-s R58M123ABC get-state"]

    def test_over_the_network(self, phone: Phone) -> None:
        with phone.device(serial="127.0.0.1:5555"):
            assert phone.calls()[:3] == ["start-server", "connect 127.0.0.1:5555", "-s 127.0.0.1:5555 get-state"]

    def test_a_refused_connection_that_ends_with_0(self, phone: Phone) -> None:
        with fault("unreachable", r"cannot be reached \(failed to connect to '127.0.0.1:1': Connection refused\)", 3):
            phone.device(serial="127.0.0.1:1")

    def test_an_unknown_serial(self, phone: Phone) -> None:
        with fault("unreachable", r"cannot be reached \(error: device 'nope' not found\); plug it in", 3):
            phone.device(serial="nope")

    @pytest.mark.parametrize(
        ("state", "kind", "text"),
        [
            ("absent", "unreachable", r"cannot be reached \(no devices found\)"),
            ("unauthorized", "auth", "does not let this computer in; unlock it and allow USB debugging"),
            ("offline", "unreachable", r"cannot be reached \(error: device offline\)"),
            ("frozen", "silent", "no answer for 1 s"),
        ],
    )
    def test_a_phone_that_is_not_ready(self, phone: Phone, state: str, kind: str, text: str) -> None:
        phone.is_now(state)
        with fault(kind, f"^device phone: .*{text}", 8):
            phone.device(timeouts=replace(HASTY, command=1))

    def test_several(self, phone: Phone) -> None:
        phone.adb.write_text("#!/bin/sh\necho 'List of devices attached'; echo 'a1\tdevice'; echo 'b2\tdevice'\n")
        with fault("unreachable", r"there are several \(a1, b2\); set adb.serial to one of them", 3):
            phone.device()

    def test_no_adb(self, phone: Phone) -> None:
        phone.adb.unlink()
        with fault("tool_missing", r"cannot be started \(No such file or directory\); install it \(apt install adb", 3):
            phone.device()


class TestItsTurn:
    """Another run holds the phone."""

    @pytest.fixture
    def other(self, phone: Phone) -> Iterator[ExitStack]:
        """Holds it until it is closed."""
        phone.store.mkdir()
        with ExitStack() as stack:
            assert stack.enter_context(held(phone.store / "lock", "somebody@elsewhere", 0)) is None
            yield stack

    def test_it_waits_and_says_so(
        self, phone: Phone, other: ExitStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def say_it(*given: Any) -> None:
            say_waiting(*given)
            threading.Timer(0.5, other.close).start()

        monkeypatch.setattr(remote, "say_waiting", say_it)
        events: list[dict[str, object]] = []
        with phone.device(python=sys.executable, timeouts=replace(PATIENT, turn=300)) as device:
            device.run(["doctor", "--runtime", "nonesuch"], events.append)
        assert [event["event"] for event in events] == ["doctor", "end"]
        said = capsys.readouterr().err
        assert said.startswith("device phone: agent doctor: busy: in use by somebody@elsewhere, since 2")
        assert said.endswith("; waiting up to 5 min for its end\n")

    def test_it_gives_up(self, phone: Phone, other: ExitStack) -> None:
        with (
            phone.device(python=sys.executable, timeouts=replace(PATIENT, turn=0.4)) as device,
            fault("busy", "device phone: agent doctor: busy: in use by somebody@elsewhere", 60),
        ):
            device.run(["doctor"], print)

    def test_a_program_that_times_waits_too(self, phone: Phone, other: ExitStack, tmp_path: Path) -> None:
        program = stand_ins.benchmark_model(tmp_path / "p")
        artifact = stand_ins.write_artifact(tmp_path / "m", "litert", "model.tflite")
        timeouts = replace(PATIENT, turn=1)
        tools = {"litert": {"program": str(program)}}
        with (
            phone.device(runtimes=("litert",), tools=tools, timeouts=timeouts) as device,
            fault("busy", "benchmark_model: in use by somebody@elsewhere, since .*; waited 1 s; wait longer", 60),
        ):
            profile_by_tool(device, artifact, protocol=stand_ins.RULES)


class TestUnplugged:
    """The exit code of every command here is 0."""

    def test_in_the_middle_of_a_push(self, phone: Phone, tmp_path: Path) -> None:
        (tmp_path / "big").write_bytes(b"x" * (8 << 20))
        with phone.device() as device:
            phone.is_now("dies 1000000")
            with fault("lost", r"device phone: cannot be reached \(error: device offline\)", 5):
                device.push(tmp_path / "big")
        deadline = time.monotonic() + 100
        while (found := list((phone.store / "store").iterdir())) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert found == []
        phone.is_now("device")
        with phone.device() as device:
            assert Path(device.push(tmp_path / "big")).stat().st_size == 8 << 20

    def test_while_the_agent_runs(self, phone: Phone, tmp_path: Path) -> None:
        with phone.device(python=sys.executable) as device, fault("lost", "error: device offline", 10):
            run_until(device, tmp_path, lambda: phone.is_now("dies 0"))

    @pytest.mark.slow
    def test_a_frozen_phone_while_the_agent_runs(self, phone: Phone, tmp_path: Path) -> None:
        frozen = phone.device(python=sys.executable, timeouts=HASTY)
        with frozen as device, fault("silent", r"said nothing for \d+ s and was stopped", 15):
            run_until(device, tmp_path, lambda: phone.is_now("frozen"))

    def test_in_the_middle_of_a_pull(self, phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "_CHUNK_BYTES", 1 << 20)
        content = bytes(range(256)) * (10 << 10)
        with phone.device() as device:
            (tmp_path / "x").write_bytes(content)
            there = device.push(tmp_path / "x")
            phone.is_now("dies 1500000")
            with pytest.raises(DeviceFault) as caught:
                device.pull(there, tmp_path / "back")
            assert caught.value.kind == "lost"
            part = next(tmp_path.glob(".back.*.part"))
            assert part.read_bytes() == content[: 1 << 20]
            phone.is_now("device")
            device.pull(there, tmp_path / "back")
            assert (tmp_path / "back").read_bytes() == content
            assert not part.exists()


def test_serials_are_checked() -> None:
    with pytest.raises(ValueError, match="should match pattern"):
        AdbSpec(serial="-H evil")
    spec = DeviceSpec(name="phone", transport="adb", runtimes=("onnxruntime",))
    with fault("tool_missing", "/no/adb cannot be started", 2):
        RemoteDevice(spec, AdbChannel(spec, PATIENT, adb="/no/adb"))
