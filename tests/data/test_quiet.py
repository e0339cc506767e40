"""Decoders write to the screen by themselves; edgekd does not let them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgekd.data.quiet import Quietly
from tests.data.odd_images import noisy_files

PROGRAM = """
import sys
from pathlib import Path
import cv2, numpy as np
from edgekd.data.images import inspect_all
from edgekd.progress import say

paths = sorted(Path(sys.argv[1]).iterdir())
if sys.argv[2] == "loud":
    for path in paths:
        cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
else:
    inspect_all(paths, 3, Path(sys.argv[1] + ".json"), title="images")
say("at the end")
"""


@pytest.mark.parametrize("how", ["loud", "quiet"])
def test_what_decoders_say_is_not_shown(how: str, tmp_path: Path) -> None:
    folder = noisy_files(tmp_path / "noisy")
    ended = subprocess.run([sys.executable, "-c", PROGRAM, folder, how], capture_output=True, text=True, check=True)
    if how == "quiet":
        assert (ended.stdout, ended.stderr) == ("", "at the end\n")
    else:  # or the test shows nothing
        for said in ("Corrupt JPEG data", "libpng warning", "TIFF"):
            assert said in ended.stderr


def test_own_words_are_shown_meanwhile_and_all_words_afterwards() -> None:
    program = (
        "import os, sys\nfrom edgekd.data.quiet import quiet_decoders\n"
        "with quiet_decoders(), quiet_decoders():\n"
        "    os.write(2, b'chatter\\n'); print('own words', file=sys.stderr)\n"
        "os.write(2, b'a fault\\n'); print('after', file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stderr == "own words\na fault\nafter\n"


def test_threads_share_the_silence(capfd: pytest.CaptureFixture[str]) -> None:
    def decode(number: int) -> int:
        os.write(2, b"chatter\n")
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(Quietly(decode), range(200))) == list(range(200))
    os.write(2, b"open again\n")
    assert capfd.readouterr().err == "open again\n"


class Images:
    def __init__(self) -> None:
        self.size = 3
        self.load = Quietly(self.load)  # type: ignore[method-assign]

    def load(self, index: int) -> int:
        return self.size * index


def test_a_data_set_with_a_quiet_method_can_be_sent_to_a_loader() -> None:
    assert pickle.loads(pickle.dumps(Images())).load(5) == 15


def test_without_a_standard_error() -> None:
    program = (
        "import os; os.close(2)\nfrom edgekd.data.quiet import quiet_decoders\n"
        "with quiet_decoders():\n    pass\nprint('done')"
    )
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert ended.stdout == "done\n"
