"""What other programs cost a training step, by how the threads of OpenMP wait for each other.

    python benchmarks/shared_machine.py                       # yolo11p, 96 px, batch 16, 2 threads: about 15 minutes
    python benchmarks/shared_machine.py --preload libiomp5.so # the same with Intel's OpenMP, which torch then uses

Each setting is tried alone, beside one busy loop, and beside another training of the same setting. A step is zero_grad,
forward, loss, backward and AdamW on one batch of random images. In each round every setting has two new processes (the
variables are read once, when OpenMP is loaded); settings, and the loads of one setting, come in random order. `edgekd`
is what edgekd itself sets.

On a machine that others use, `--realtime` (for root) lets the steps that are timed alone run before all other programs.
Beside a load that is no remedy: there the scheduler's turns are what is measured.

Steps are timed in blocks, until a block saw nothing of other programs, or the quietest of several is taken; what they
used of the cores is stated as `foreign`. A figure is the median over rounds of a block's median step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from paired import environment, ratio, say, use_cores

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY")
SETTINGS: dict[str, dict[str, str]] = {
    "as it is": {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"},  # their own defaults
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=300": {"GOMP_SPINCOUNT": "300"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=100000": {"GOMP_SPINCOUNT": "100000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
LOADS = ("alone", "busy loop", "training")
WARM_UP_STEPS = 3
QUIET = 0.02  # share of all cores that others may use in a block; at once, else the quietest block counts
Block = dict[str, float]


class Training:
    """A process that trains when it is told to; between that it sleeps."""

    def __init__(self, options: argparse.Namespace, variables: dict[str, str]) -> None:
        surroundings = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        surroundings |= {"LD_PRELOAD": options.preload} if options.preload else {}
        words = [f"--{name}={getattr(options, name)}" for name in ("model", "imgsz", "batch", "threads")]
        words += ["--realtime"] if options.realtime else []
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work", *words], env={**surroundings, **variables},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def answer(self) -> Any:
        """What it says next."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("shared_machine: a training ended by itself; see its message above")
        return json.loads(line)

    def ask(self, **what: Any) -> None:
        """Tell it what to do: `{}` is training until it is told something else, and answers with a block."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    @contextlib.contextmanager
    def going_on(self) -> Iterator[int]:
        """Let it train meanwhile."""
        self.ask()
        try:
            yield self.pid
        finally:
            self.ask()
            self.answer()

    def end(self) -> None:
        """For good."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def busy_loop() -> Iterator[int]:
    """A program that wants one core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def measure(options: argparse.Namespace, variables: dict[str, str], order: random.Random) -> dict[str, Block]:
    """The quietest block per load, of one round."""
    trainings = [Training(options, variables) for _ in range(2)]
    try:
        for training in trainings:
            training.answer()  # it is ready
        one, other = trainings
        beside = {"alone": contextlib.nullcontext, "busy loop": busy_loop, "training": other.going_on}
        found = {}
        for load in order.sample(LOADS, len(LOADS)):
            with beside[load]() as companion:
                blocks: list[Block] = []
                while len(blocks) < options.blocks and min((one["foreign"] for one in blocks), default=1) > QUIET:
                    one.ask(seconds=options.block_seconds, companions=[companion] if companion else [])
                    blocks.append(one.answer())
            found[load] = min(blocks, key=lambda block: block["foreign"])
        return found
    finally:
        for training in trainings:
            training.end()


def work(options: argparse.Namespace) -> None:
    """The training process: a line of what to do from standard input, a line of answer."""
    from edgekd.agent.protocol import claim_stdout

    stdout = claim_stdout()  # Ultralytics prints there
    from train_step import plain_step

    step = plain_step(options.model, options.imgsz, options.batch, int(os.environ["OMP_NUM_THREADS"]))
    for _ in range(WARM_UP_STEPS):
        step()
    answer: Any = "ready"
    while True:
        stdout.write(json.dumps(answer).encode() + b"\n")
        stdout.flush()
        what = json.loads(sys.stdin.readline())
        if what:
            with first_of_all() if options.realtime and not what["companions"] else contextlib.nullcontext():
                answer = block(step, what["seconds"], what["companions"])
        else:
            while not select.select([sys.stdin], [], [], 0)[0]:
                step()
            answer = json.loads(sys.stdin.readline())


@contextlib.contextmanager
def first_of_all() -> Iterator[None]:
    """All threads of this process run before those of any program with usual rights."""
    threads = [int(name.name) for name in Path("/proc/self/task").iterdir()]
    for thread in threads:
        os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def block(step: Callable[[], float], at_least_s: float, companions: Sequence[int]) -> Block:
    """Median step of a few seconds (two steps at least), and the share of the cores that others used meanwhile."""
    own = [os.getpid(), *companions]
    started, machine, ours = time.monotonic(), machine_s(), sum(map(process_s, own))
    steps: list[float] = []
    while len(steps) < 2 or sum(steps) < at_least_s:
        steps.append(step())
    passed_s = time.monotonic() - started
    others_s = machine_s() - machine - (sum(map(process_s, own)) - ours)
    return {"step_s": median(steps), "foreign": max(0.0, others_s / passed_s / (os.cpu_count() or 1))}


def machine_s() -> float:
    """Seconds that all cores have worked: all but idle, iowait and steal."""
    user, nice, system, _, _, interrupts, soft, *_ = (int(word) for word in _words("/proc/stat")[1:])
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def process_s(pid: int) -> float:
    """Seconds that a process has worked, all its threads together."""
    return time.clock_gettime((~pid << 3) | 2)  # the clock that clock_getcpuclockid names


def _words(path: str) -> list[str]:
    with Path(path).open() as stream:
        return stream.readline().split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolo11p")
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=6, help="at most, per round, setting and load")
    parser.add_argument("--block-seconds", type=float, default=1.5)
    parser.add_argument("--only", nargs="+", metavar="SETTING", help="leave the other settings out")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a further setting")
    parser.add_argument("--preload", metavar="FILE", help="an OpenMP that takes the place of torch's own")
    parser.add_argument("--realtime", action="store_true", help="for root: others do not disturb what is timed alone")
    parser.add_argument("--pin", action="store_true", help="keep everything on as many cores as there are threads")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options)
        return
    use_cores(options.threads, options.pin)
    started = time.monotonic()
    settings = settings_of(options)
    order = random.Random(0)
    blocks: dict[str, dict[str, list[Block]]] = {name: {load: [] for load in LOADS} for name in settings}
    for number in range(1, options.rounds + 1):
        for name in order.sample(list(settings), len(settings)):
            for load, found in measure(options, settings[name], order).items():
                blocks[name][load].append(found)
            latest = ((load, blocks[name][load][-1]) for load in LOADS)
            shown = ", ".join(f"{load} {1e3 * one['step_s']:.0f} ms ({one['foreign']:.0%})" for load, one in latest)
            say(f"round {number}/{options.rounds}: {name}: {shown}")
    print(json.dumps({
        "benchmark": "shared_machine",
        "settings": vars(options) | {"variables": settings},
        "environment": environment("torch", "ultralytics"),
        "results": {name: summary(found, blocks.get("as it is")) for name, found in blocks.items()},
        "seconds": round(time.monotonic() - started, 1),
    }, indent=2))  # fmt: skip


def settings_of(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Name of each setting -> its variables."""
    from edgekd.openmp import bound_waiting

    ours: dict[str, str] = {}
    bound_waiting(ours)
    more = {text: dict([text.split("=", 1)]) for text in options.set}
    settings = {**SETTINGS, **more, "edgekd": ours}
    return {name: value for name, value in settings.items() if not options.only or name in options.only or name in more}


def summary(blocks: dict[str, list[Block]], as_it_is: dict[str, list[Block]] | None) -> dict[str, Any]:
    """Milliseconds of a step per load, how many times as long as alone, and what others used of the cores at most."""
    seconds = {load: [one["step_s"] for one in found] for load, found in blocks.items()}
    return {
        "median_ms": {load: round(1e3 * median(values), 1) for load, values in seconds.items()},
        "least_ms": {load: round(1e3 * min(values), 1) for load, values in seconds.items()},
        "foreign": {load: round(max(one["foreign"] for one in found), 3) for load, found in blocks.items()},
        "over alone": {load: ratio(values, seconds["alone"]) for load, values in seconds.items() if load != "alone"},
        **({"alone / as it is": ratio(seconds["alone"], [one["step_s"] for one in as_it_is["alone"]])} if as_it_is
           else {}),
    }  # fmt: skip


if __name__ == "__main__":
    main()
