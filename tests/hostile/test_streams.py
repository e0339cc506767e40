"""Standard output that is closed, full, or has lost its reader: exit code 4 and one line, never the gate's 1."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMAND = f"exec '{sys.executable}' -m edgekd.cli"


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (f"{COMMAND} schema >&-", "standard output: is closed; direct it to a file or to /dev/null"),
        (f"{COMMAND} schema > /dev/full", "standard output: cannot be written (No space left on device); the result"),
        (f"({COMMAND} schema) | true; exit ${{PIPESTATUS[0]}}", "standard output: cannot be written (its reader went"),
    ],
)
def test_nobody_can_read_the_result(script: str, line: str) -> None:
    ended = shell(script)
    assert ended.returncode == 4
    (said,) = ended.stderr.splitlines()
    assert said.startswith(f"edgekd: error: {line}")


def test_without_standard_error_the_code_still_tells() -> None:
    ended = shell(f"{COMMAND} check nowhere 2>&-")
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "")


def test_a_terminal_of_few_letters() -> None:
    ended = shell(f"{COMMAND} check 'Fußgänger\U0001f422'", PYTHONIOENCODING="ascii")
    assert ended.returncode == 2
    assert "unknown recipe 'Fu\\xdfg\\xe4nger\\U0001f422'" in ended.stderr
