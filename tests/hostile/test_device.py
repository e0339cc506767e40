"""A device that lies: forged and damaged records, lines without end, words that attack whoever prints them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from edgekd.agent.protocol import unpack_array
from edgekd.devices import stream
from edgekd.devices.faults import DeviceFault
from tests.hostile.nasty import NAMES
from tests.hostile.trial import limited, require_plain


def told(said: list[bytes], on_event: Any = lambda event: None, errors: bytes = b"") -> str:
    """The fault of an agent that said this."""
    with limited(), pytest.raises(DeviceFault) as caught:
        if not stream.follow(said, on_event, "device pi", io.BytesIO(errors)):
            raise DeviceFault("crashed", f"device pi: ended early{stream.tail(io.BytesIO(errors))}")
    (line,) = caught.value.problems
    require_plain(line)
    assert caught.value.exit_code == 4
    assert line.startswith("device pi: ")
    return line


DAMAGED = [
    b"",
    b"\n",
    b"null\n",
    b"3\n",
    b"[]\n",
    b"{}\n",
    b'"end"\n',
    b"{\n",
    b"\xff\xfe\n",
    bytes(99) + b"\n",
    b"[" * 5000 + b"\n",
    b'{"event":' * 5000 + b"\n",
    b"1" * 5000 + b"\n",
    b'{"event": "end"}\n',
    b'{"event": "end", "count": 0}\n',
    b'{"event": "end", "count": -1, "sha256": "x"}\n',
    b'{"event": "end", "count": "0", "sha256": null}\n',
    b"::error::x\n",
    b"##[error]x\n",
    b"\x1b[2J\n",
    b"Traceback (most recent call last):\n",
    b"<html>\n",
]


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_a_record_that_is_none(line: bytes) -> None:
    told([line] if line else [])


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_words_of_an_agent(name: str) -> None:
    """As an error that it reports, as its last words, and as what it sends instead of records."""
    told([json.dumps({"event": "error", "kind": name, "message": name}).encode() + b"\n"])
    told([], errors=name.encode("utf-8", "surrogatepass"))
    told([name.encode("utf-8", "surrogatepass") + b"\n"])


@pytest.mark.parametrize("message", [None, 3, [], {"a": 1}, "x" * 10**6])
def test_an_error_of_another_kind(message: Any) -> None:
    told([json.dumps({"event": "error", "message": message}).encode() + b"\n"])


ARRAYS: list[dict[str, Any]] = [
    {},
    {"dtype": "float64"},
    {"dtype": "object", "shape": [1], "base64": "AAAAAAAAAAA="},
    {"dtype": "evil", "shape": [1]},
    {"dtype": "float64", "shape": [10**12], "base64": ""},
    {"dtype": "float64", "shape": [-5], "base64": "AAAA"},
    {"dtype": "float64", "shape": "x", "base64": "AAAAAAAAAAA="},
    {"dtype": "float64", "shape": [1], "base64": "***"},
    {"dtype": 3, "shape": [1], "base64": "AAAA"},
    {"dtype": "float64", "shape": [1], "base64": None},
]


@pytest.mark.parametrize("array", ARRAYS, ids=range(len(ARRAYS)))
def test_arrays_that_are_none(array: dict[str, Any]) -> None:
    line = json.dumps({"event": "samples", "values": array}).encode() + b"\n"
    assert "sent a record 'samples' that is none (" in told([line], lambda event: unpack_array(event["values"]))


def process(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_LINE_BYTES", 1_000_000)
    endless = process("import os\nwhile True: os.write(1, b'x' * 65536)")
    try:
        with (
            limited(),
            pytest.raises(DeviceFault, match="sent a line of more than 1,000,000 bytes, which no agent does"),
        ):
            list(stream.lines(endless, "device pi", 60))
    finally:
        stream.stop(endless)


def test_lines_in_pieces_come_whole() -> None:
    program = "import os, time\nfor part in (b'a', b'b\\nc', b'\\n', b'd\\ne\\nf'): os.write(1, part); time.sleep(0.01)"
    said = process(program)
    assert list(stream.lines(said, "device pi", 60)) == [b"ab\n", b"c\n", b"d\n", b"e\n"]
    stream.stop(said)


def test_last_words_without_end_are_not_read_whole() -> None:
    errors = io.BytesIO(b"x" * 10_000_000 + b"\nlast")
    assert stream.tail(errors) == "; it said: last"
