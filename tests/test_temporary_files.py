"""Test processes have temporary folders of their own, and leave nothing: neither files nor a traceback."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from multiprocessing.util import get_temp_dir
from pathlib import Path


def test_multiprocessing_has_its_folder_there() -> None:
    assert Path(get_temp_dir()).parent == Path(tempfile.gettempdir())
    assert Path(tempfile.gettempdir()).name.startswith("edgekd-")


def test_they_go_at_the_end_without_a_word(tmp_path: Path) -> None:
    which = f"{__file__}::{test_multiprocessing_has_its_folder_there.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", which]
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'pytest'}"],
        env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert ended.stderr == ""
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("edgekd-")] == []
