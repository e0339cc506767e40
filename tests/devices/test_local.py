import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekd.devices import catalog
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.local import LocalDevice
from edgekd.devices.turn import own_turn, say_waiting
from edgekd.errors import Bug, EnvironmentFault
from tests.devices.loopback import fault
from tests.processes import ends

SPEC = DeviceSpec(name="here", runtimes=("onnxruntime",))
SPEAK = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from edgekd.agent.protocol import Writer
writer = Writer(sys.stdout.buffer)
writer.emit("environment", pid=os.getpid())
"""


def device_saying(folder: Path, script: str, **options) -> LocalDevice:
    """A device whose interpreter ignores the agent and runs `script`."""
    import edgekd

    python = folder / "python"
    program = folder / "program.py"
    program.write_text(SPEAK.format(root=str(Path(edgekd.__file__).parent.parent)) + script)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}"\n')
    python.chmod(0o755)
    return LocalDevice(SPEC, python=str(python), **options)


def run(device):
    events = []
    try:
        with device:
            device.run(["predict"], events.append)
    finally:
        device.events = events
    return events


def test_a_whole_run_hands_over_every_event(tmp_path):
    events = run(device_saying(tmp_path, "writer.emit('samples', a_ns=[1])\nwriter.end()"))
    assert [event["event"] for event in events] == ["environment", "samples", "end"]


def test_events_arrive_while_the_agent_runs(tmp_path):
    marker = tmp_path / "seen"
    device = device_saying(tmp_path, f"while not os.path.exists({str(marker)!r}): time.sleep(0.01)\nwriter.end()")
    with device:
        device.run(["predict"], lambda event: marker.touch())


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", r"ended before its output was whole \(killed by SIGKILL\)"),
        ("sys.exit(0)", r"ended before its output was whole \(exit code 0\)"),
        ("print('no numpy', file=sys.stderr); sys.exit(3)", r"exit code 3; it said: no numpy"),
        ("writer._count = 7; writer.end()", "output is damaged: the end record counts 7 lines, 1 arrived"),
        ("print('welcome', flush=True)", "output is damaged: line 2 is not an event"),
        ("print('{', end='', flush=True); os.kill(os.getpid(), signal.SIGKILL)", r"killed by SIGKILL"),
        ("writer.emit('error', kind='artifact', message='sha256 is x')", "agent predict: artifact: sha256 is x"),
    ],
)  # fmt: skip
def test_what_is_not_whole_is_a_fault_of_the_environment(tmp_path, script, text):
    with pytest.raises(EnvironmentFault, match=r"^device here: agent predict: ") as caught:
        run(device_saying(tmp_path, script))
    assert re.search(text, str(caught.value))


def test_a_whole_record_counts_whatever_the_exit_code(tmp_path):
    assert run(device_saying(tmp_path, "writer.end(); sys.stdout.flush(); os._exit(1)"))[-1]["event"] == "end"


def test_a_call_that_the_agent_cannot_read_is_a_bug():
    with LocalDevice(SPEC) as device, pytest.raises(Bug, match="device here: agent profile: was called in a way that"):
        device.run(["profile", "--threads", "None"], lambda event: None)


def test_a_silent_agent_is_stopped(tmp_path):
    device = device_saying(tmp_path, "time.sleep(600)", stall_seconds=1.5)
    with pytest.raises(EnvironmentFault, match=r"said nothing for \d+ s and was stopped"):
        run(device)
    assert ends(device.events[0]["pid"])


def test_an_exception_of_the_listener_stops_the_agent_and_its_children(tmp_path):
    start = "import subprocess; child = subprocess.Popen(['sleep', '600']); "
    script = start + "writer.emit('child', pid=child.pid); time.sleep(600)"
    device = device_saying(tmp_path, script)
    pids = []

    def listener(event):
        pids.append(event["pid"])
        if event["event"] == "child":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), device:
        device.run(["predict"], listener)
    assert [ends(pid) for pid in pids] == [True, True]


def test_an_interpreter_that_is_not_there(tmp_path):
    with (
        pytest.raises(EnvironmentFault, match="cannot start /nowhere/python"),
        LocalDevice(SPEC, python="/nowhere/python") as device,
    ):
        device.run(["predict"], print)


def test_push_is_the_absolute_path_and_closing_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifact").mkdir()
    with LocalDevice(SPEC) as device:
        assert device.push(Path("artifact")) == str((tmp_path / "artifact").resolve())
        with pytest.raises(EnvironmentFault, match="gone: is not there any more"):
            device.push(Path("gone"))
        folder = device._folder
        assert list(folder.glob("edgekd-agent-*.pyz"))
    assert not folder.exists()


class TestOneAtATime:
    @pytest.fixture
    def other(self, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A process of its own that measures here."""
        script = "from edgekd.devices.turn import own_turn\nwith own_turn('w', 0): print('held', flush=True); input()"
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
            yield process
            process.kill()

    def test_a_second_one_is_refused_and_told_who(self, other: subprocess.Popen[bytes]) -> None:
        with (
            fault("busy", rf"^w: busy: in use by \S+@.* \(process {other.pid}\), since 2.*; wait for it to end$", 5),
            own_turn("w", 0.2),
        ):
            raise AssertionError("both measure")

    def test_a_killed_one_holds_nothing(self, other: subprocess.Popen[bytes]) -> None:
        other.kill()
        other.wait()
        with own_turn("w", 0.2):
            pass

    def test_it_waits_a_little(self, other: subprocess.Popen[bytes]) -> None:
        threading.Timer(0.3, other.kill).start()
        with own_turn("w", 100):
            pass

    def test_what_is_not_timed_waits_for_nobody(self, other: subprocess.Popen[bytes], tmp_path: Path) -> None:
        assert [event["event"] for event in run(device_saying(tmp_path, "writer.end()"))] == ["environment", "end"]

    def test_what_is_timed_does(self, other: subprocess.Popen[bytes], tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr("edgekd.devices.local._BUSY_SECONDS", 0.1)
        with device_saying(tmp_path, "writer.end()") as device:
            for command in ("profile", "compare", "throughput"):
                with fault("busy", f"^device here: agent {command}: busy: in use by", 5):
                    device.run([command], print)

    def test_it_waits_its_turn_and_says_so(self, other: subprocess.Popen[bytes], monkeypatch, capsys) -> None:
        def say_it(*given: object) -> None:
            say_waiting(*given)
            threading.Timer(0.5, other.kill).start()

        monkeypatch.setattr("edgekd.devices.turn.say_waiting", say_it)
        with own_turn("device here: agent profile", 0.1, 300):
            pass
        said = capsys.readouterr().err
        assert said.startswith("device here: agent profile: in use by ")
        assert said.endswith("; waiting up to 5 min for its end\n")

    def test_it_does_not_wait_for_ever(self, other: subprocess.Popen[bytes]) -> None:
        with (
            fault("busy", r"^w: busy: in use by .*; waited 0.2 s; wait longer with --wait$", 60),
            own_turn("w", 0.1, 0.2),
        ):
            raise AssertionError("both measure")

    def test_a_device_waits_as_long_as_it_is_told(self, tmp_path: Path, monkeypatch) -> None:
        asked = []

        @contextlib.contextmanager
        def turn(*given: object) -> Iterator[None]:
            asked.append(given)
            yield

        monkeypatch.setattr("edgekd.devices.local.own_turn", turn)
        with device_saying(tmp_path, "writer.end()", turn_seconds=77) as device:
            device.run(["profile"], lambda _: None)
        assert asked == [("device here: agent profile", 3.0, 77)]
        with catalog.open_device(SPEC, 66) as device:
            assert device.turn_seconds == 66
