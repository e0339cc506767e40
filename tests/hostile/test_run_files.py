"""Run directories of others: every file that a report reads, damaged in every way; exit code 2 and the run's name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.report.render import render
from tests.hostile.trial import limited, require_plain
from tests.report.make_run import make_run

FILES = [
    "manifest.json", "recipe.lock.yaml", "verdict.json", "data/split.json", "data/ground_truth-val.json",
    "data/packs/val-0123456789ab.json", "data/packs/val-0123456789ab.npy", "teacher/teacher.json",
    "student/metrics.json", "student/epochs.csv", "student/terms.csv", "student/first_steps.json",
    "validate/onnx-fp32@local.json", "validate/student@host.detections.jsonl", "profile/onnx-fp32@local.json",
    "export/onnx-fp32/edgekd.json", "export/onnx-fp32/parity.json",
]  # fmt: skip
EVERY_VALUE: list[Any] = [None, -1, 1e300, "x", [], {}, [[]], "<script>", True]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy whose files are links, but for those that a test writes anew."""
    shutil.copytree(made, tmp_path / "run", copy_function=os.link)
    return tmp_path / "run"


def write(path: Path, content: bytes) -> None:
    path.unlink()  # the other name of the same file keeps its content
    path.write_bytes(content)


def told(run: Path) -> str | None:
    """What the report says of it; None where it does without."""
    with limited():
        try:
            render(run, examples=1)
        except InputError as error:
            (line,) = error.problems
            require_plain(line)
            assert str(run) in line
            return line
    return None


CONTENTS: dict[str, bytes] = {
    "cut in half": b'{"ap": 0.5, "per_cl', "a list": b"[]", "null": b"null", "an empty object": b"{}",
    "no text": b"\xff\xfe\x00\x01", "nested": b"[" * 5000, "digits": b"1" * 5000, "NaN": b'{"ap": NaN}',
}  # fmt: skip


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_damaged(name: str, content: str, run: Path) -> None:
    write(run / name, CONTENTS[content])
    told(run)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".json")])
def test_values_of_another_kind(name: str, run: Path) -> None:
    """At a few places of every depth, each with another kind of value."""
    whole = json.loads((run / name).read_text())
    found = places(whole)
    for number, place in enumerate(found[:: max(len(found) // 5, 1)][:6]):
        write(run / name, json.dumps(changed(whole, place, EVERY_VALUE[number % len(EVERY_VALUE)])).encode())
        told(run)


def places(content: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in items for place in [(*at, key), *places(value, (*at, key))]]


def changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[place[0]] = changed(content[place[0]], place[1:], value)
    return copy


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_none(name: str, run: Path) -> None:
    kinds: list[Callable[[Path], None]] = [
        os.mkfifo, lambda path: path.mkdir(), lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("/dev/zero"),
    ]  # fmt: skip
    for kind in kinds:
        path = run / name
        path.unlink()
        kind(path)
        told(run)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        path.touch()


def test_the_whole_run_is_reported(run: Path) -> None:
    assert told(run) is None
