"""Models of OpenVINO that come and go leave the process able to receive signals."""

import subprocess
import sys

from edgekd.testing.artifacts import write_artifact

# The order matters: what was opened first goes first. The child's end sends the signal.
PROGRAM = """
import gc, pathlib, signal, subprocess, sys
from edgekd.agent.runtimes import open_model
def opened():
    return open_model("openvino", pathlib.Path(sys.argv[1]), 1, "fp32")
first = opened()
second = opened()
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGCHLD, lambda *_: print("received"))
subprocess.run([sys.executable, "-c", ""], check=True)
"""


def test_a_signal_after_two_models_were_closed(tmp_path):
    model = write_artifact(tmp_path / "model", runtime="openvino") / "model.xml"
    command = [sys.executable, "-c", PROGRAM, str(model)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (ended.returncode, ended.stdout) == (0, "received\n"), ended.stderr
