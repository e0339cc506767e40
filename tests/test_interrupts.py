"""SIGTERM and Ctrl-C end the program with one line and 130, whatever it is importing or swallowing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.interrupts import Interrupts
from edgekd.training.signals import StopRequest

ROOT = Path(__file__).parents[1]

# The signal comes in the very moment in which this module is about to be imported.
DURING_IMPORTS = """
import os, signal, sys
class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.{name})
signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it
sys.meta_path.insert(0, Sender())
from edgekd.__main__ import main
sys.argv = ["edgekd", "check", "quickstart", "--architecture-only"]
main()
"""

# A library that goes on after any exception, for good or once.
SWALLOWING = """
import os, signal, sys, time
signal.signal(signal.SIGINT, {sigint})
from edgekd import interrupts
interrupts.AGAIN_S, interrupts.AT_LAST_S = 0.1, {last}
from edgekd.__main__ import main
from edgekd.stages import listing
def swallow():
    print("ready", flush=True)
    for _ in range({times}):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(600)
        except BaseException:
            pass
    time.sleep(600)
listing.list_devices = swallow
sys.argv = ["edgekd", "devices"]
main()
"""


def ended(program: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def line(name: str) -> str:
    by = "" if name == "SIGINT" else f" by {name}"
    return f"edgekd: error: interrupted{by}; the same command goes on from the last finished stage\n"


@pytest.mark.parametrize(
    ("module", "name"),
    [("edgekd.cli.entry", "SIGTERM"), ("typer", "SIGTERM"), ("typer", "SIGINT"), ("edgekd.cli.verdicts", "SIGTERM"),
     ("pydantic", "SIGTERM"), ("numpy", "SIGINT"), ("torch.nn", "SIGTERM"), ("ultralytics.utils", "SIGTERM")],
)  # fmt: skip
def test_during_imports(module: str, name: str) -> None:
    assert ended(DURING_IMPORTS.format(module=module, name=name)) == (130, "", line(name))


@pytest.mark.parametrize("sigint", ["signal.default_int_handler", "signal.SIG_IGN"])  # the latter in the background
@pytest.mark.parametrize(("times", "last"), [(1, 600.0), (10**6, 0.5)], ids=["once", "always"])
def test_an_exception_that_is_swallowed(times: int, last: float, sigint: str) -> None:
    assert ended(SWALLOWING.format(times=times, last=last, sigint=sigint)) == (130, "ready\n", line("SIGTERM"))


def test_an_exception_that_passes_through_exec(tmp_path: Path) -> None:
    """Named tuples, dataclasses and others are made by `exec` of a text; Python has a flag of its own for that."""
    (tmp_path / "stopped.py").write_text(
        "from edgekd.__main__ import main\nimport sys\nfrom edgekd.stages import listing\n"
        "text = 'import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)'\n"
        "listing.list_devices = lambda: exec(text)\nsys.argv = ['edgekd', 'devices']\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "stopped"], capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", line("SIGTERM"))


def test_a_second_one_while_it_ends_changes_nothing() -> None:
    program = "\n".join([
        "import atexit, os, signal, sys",
        "atexit.register(lambda: [os.kill(os.getpid(), number) for number in (signal.SIGTERM, signal.SIGINT)])",
        "from edgekd.__main__ import main",
        "sys.argv = ['edgekd', '--version']",
        "main()",
    ])  # fmt: skip
    code, _, err = ended(program)
    assert (code, err) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_comes_behind_the_last_batch_of_a_training(number: signal.Signals) -> None:
    """The training notes it, and has no batch left before which to heed it."""
    with Interrupts() as interrupts:
        if signal.getsignal(number) in (signal.SIG_IGN, signal.default_int_handler):
            pytest.skip("the tests run where this signal is ignored")
        with pytest.raises(KeyboardInterrupt), StopRequest():
            os.kill(os.getpid(), number)
        assert interrupts.came == number.name


def test_what_is_ignored_stays_ignored() -> None:
    """As under nohup, or in the background of a shell."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGTERM)
            assert (interrupts.came, signal.getsignal(signal.SIGTERM)) == (None, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_fork_dies_as_others_do() -> None:
    with Interrupts() as interrupts:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert (os.WTERMSIG(status), interrupts.came) == (signal.SIGTERM, None)
