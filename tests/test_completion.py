"""What a shell is told when somebody presses Tab, and the script that it is told by."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.cli import completion

PROGRAM = "import sys; sys.argv[0] = 'edgekd'; from edgekd.__main__ import main; main()"


def completed(words: str, cwd: Path) -> list[str]:
    """Answers for the last word, as bash asks for them."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_EDGEKD_COMPLETE": "complete_bash"}
    environment = {**os.environ, **asked, "PYTHONPATH": str(Path(completion.__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=cwd, env=environment
    )
    return ended.stdout.split()


def test_commands_options_and_names_are_completed(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "quay.yaml").write_text("name: quay\n")
    assert completed("edgekd short", tmp_path) == ["shortlist"]
    assert completed("edgekd run qu", tmp_path) == ["quay", "quickstart"]
    assert completed("edgekd doctor --dev", tmp_path) == ["--device"]
    assert completed("edgekd doctor --device rasp", tmp_path) == ["raspberry-pi-5"]


@pytest.mark.parametrize(
    ("names", "beginning", "found"),
    [
        (completion.targets, "openvino-f", ["openvino-fp16", "openvino-fp32"]),
        (completion.devices, "nothing", []),
        (completion.methods, "cw", ["cwd"]),
        (completion.methods, "quick", ["quickstart"]),
    ],
)
def test_names_begin_with_what_was_typed(names: object, beginning: str, found: list[str]) -> None:
    assert callable(names)
    assert names(beginning) == found
