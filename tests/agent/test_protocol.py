import io
import itertools
import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from edgekd.agent import protocol
from edgekd.agent.protocol import IncompleteError, Reader, Writer, encode, heartbeats, pack_array, unpack_array


def _run(events=3):
    stream = io.BytesIO()
    writer = Writer(stream)
    for number in range(events):
        writer.emit("samples", number=number, share=0.1 * number, text="µ")
    writer.end()
    return stream.getvalue().splitlines(keepends=True)


def _read(lines):
    reader = Reader()
    return [reader.feed(line) for line in lines], reader


def test_a_whole_run_is_complete_and_encodes_to_the_same_bytes():
    lines = _run()
    events, reader = _read(lines)
    assert reader.complete
    assert events[-1]["count"] == 3
    assert b"".join(map(encode, events)) == b"".join(lines)


def test_a_run_without_its_end_is_not_complete():
    assert not _read(_run()[:-1])[1].complete


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda lines: lines[1:], "counts 3 lines, 2 arrived"),
        (lambda lines: [lines[0].replace(b"0.0", b"0.5"), *lines[1:]], "is not that of the lines"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "is not that of the lines"),
        (lambda lines: [b"motd: welcome", *lines], "line 1 is not an event"),
        (lambda lines: [*lines[:-1], lines[-1][:20]], "line 4 is not an event"),
        (lambda lines: [*lines, lines[0]], "follows the end record"),
        (lambda lines: [b"[1]\n"], "line 1 is not an event"),
    ],
)
def test_damage_is_seen(damage, text):
    with pytest.raises(IncompleteError, match=text):
        _read(damage(_run()))


@pytest.mark.parametrize("array", [np.zeros((0, 4), np.float32), np.arange(6, dtype=np.int64).reshape(2, 3)])
def test_arrays_survive(array):
    restored = unpack_array(pack_array(array))
    assert restored.dtype == array.dtype
    np.testing.assert_array_equal(restored, array)
    assert restored.flags.writeable


def test_big_endian_arrays_survive():
    np.testing.assert_array_equal(unpack_array(pack_array(np.array([1.5, 2], dtype=">f4"))), [1.5, 2])


def test_what_libraries_print_does_not_get_between_the_events():
    script = """
import os
from edgekd.agent.protocol import Writer, claim_stdout
with claim_stdout() as stream:
    writer = Writer(stream)
    print("chatter of a library", flush=True)
    os.write(1, b"chatter of a C library")
    writer.end()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=300, check=True)
    reader = Reader()
    assert [reader.feed(line)["count"] for line in ended.stdout.splitlines(keepends=True)] == [0]
    assert ended.stderr.decode().split() == ["chatter", "of", "a", "library", "chatter", "of", "a", "C", "library"]


def test_a_long_step_is_not_silent_and_its_beats_are_part_of_a_whole_run():
    stream = io.BytesIO()
    writer = Writer(stream)
    with heartbeats(writer, "loading the model", every_s=0.01):
        deadline = time.monotonic() + 100
        while stream.getvalue().count(b"heartbeat") < 3 and time.monotonic() < deadline:
            writer.emit("samples", number=1)  # two threads, one stream
    said = stream.getvalue()
    time.sleep(0.03)
    assert stream.getvalue() == said
    writer.end()
    events, reader = _read(stream.getvalue().splitlines(keepends=True))
    assert reader.complete
    beats = [event for event in events if event["event"] == "heartbeat"]
    assert len(beats) >= 3
    assert {event["doing"] for event in beats} == {"loading the model"}
    assert [event["seconds"] for event in beats] == sorted(event["seconds"] for event in beats)


def test_a_step_that_takes_too_long_is_said_no_more_of(monkeypatch):
    passed = itertools.count(0, 10)  # seconds, from look to look
    monkeypatch.setattr(protocol, "time", SimpleNamespace(monotonic=lambda: next(passed)))
    before = set(threading.enumerate())
    stream = io.BytesIO()
    with heartbeats(Writer(stream), "building", every_s=0.001, cap_s=50):
        for beating in set(threading.enumerate()) - before:  # none, if it has ended already
            beating.join(100)
            assert not beating.is_alive()
    said = [json.loads(line)["seconds"] for line in stream.getvalue().splitlines()]
    assert said == [20, 40]  # it looks before and while it says so


def test_a_listener_that_left_does_not_end_the_step():
    class Closed(io.BytesIO):
        def write(self, line):
            raise BrokenPipeError

    with heartbeats(Writer(Closed()), "building", every_s=0.01):
        time.sleep(0.05)
