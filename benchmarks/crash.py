"""Does a run survive? `edgekd run` is killed in every one of its stages, by SIGKILL, SIGTERM and Ctrl-C in turn, and
started again, until each stage was hit often enough; what comes out is compared with a run that nobody disturbed.

    python benchmarks/crash.py                                  # 12 kills in each of 12 places
    python benchmarks/crash.py --kills 3 --stages gate,report   # of some stages

The run is the quickstart's with few images, and with the training state kept before every batch. A kill is aimed: it
comes at a random moment after the process has entered the stage, and counts where the run stood then. `start` is the
time before the first stage: imports, the recipe, the data. Where a stage ended before it was hit often enough, it and
those behind it are taken out of the manifest, as a kill just before it would have left it.

`identical`: weights and logs of control and student are those of the undisturbed run, to the byte. SIGKILL and SIGTERM
go to the process alone, Ctrl-C to its process group, as a terminal sends it. `survivors` counts processes that outlived
theirs by 15 s. `wrong_ends` lists every SIGTERM and Ctrl-C that did not end with one line and exit code 130, but for
those that came before Python had installed a handler: `before_python`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from paired import ROOT, environment, say, use_cores

RECIPE = ROOT / "recipes" / "quickstart.yaml"
CHANGES = (
    "data.train=48", "data.val=16", "data.test=8", "train.epochs=4", "train.mosaic=0.5", "train.close_mosaic=1",
    "train.checkpoint_minutes=0.00001", "threads=1", "export=[onnx-fp32]", "gate={min_ap: 0.0}",
    "profile.protocol=quick", "profile.wait=0",
)  # fmt: skip
STAGES = ("data", "teacher", "control", "accuracy/control", "student", "accuracy/student", "export/onnx-fp32",
          "validate/onnx-fp32@local", "profile/onnx-fp32@local", "gate", "report")  # fmt: skip
PROFILE = "profile/onnx-fp32@local"
PLACES = ("start", *STAGES)
WEIGHTS = ("control/student.pt", "student/student.pt", "student/terms.csv", "student/epochs.csv")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
PATIENCE_S, LINE = 15.0, "edgekd: error: interrupted"


class Run:
    """One `edgekd run` in a process group of its own, its output in a file."""

    def __init__(self, out: Path) -> None:
        changes = [part for change in CHANGES for part in ("--set", change)]
        command = [sys.executable, "-m", "edgekd", "run", str(RECIPE), "--out", str(out), *changes]
        self.out, self.log, self.done_before = out, out.with_suffix(".log"), done(out)
        self._lock_before, self.began = _changed_ns(out / "recipe.lock.yaml"), time.monotonic()
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=ROOT, start_new_session=True)

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def place(self) -> str:
        """Where it is: `start`, a stage, or `end`."""
        kept = {line.removesuffix(": unchanged, kept") for line in self.text.splitlines() if line.endswith(", kept")}
        if _changed_ns(self.out / "recipe.lock.yaml") == self._lock_before or not self.done_before <= kept:
            return "start"
        return next((stage for stage in STAGES if stage not in done(self.out)), "end")

    def heeds(self) -> bool:
        """Whether Python runs, and has its handler."""
        with suppress(OSError):
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
            return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
        return False

    def freeze(self) -> None:
        """Stop it where it is, so that it is still there when the signal comes: the gate is a matter of 0.01 s."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGSTOP)

    def end(self, name: str) -> None:
        """Send a signal to the frozen process, let it go on, and wait."""
        send = os.killpg if name == "SIGINT" else os.kill
        with suppress(ProcessLookupError):
            send(self.process.pid, signal.Signals[name])
            os.kill(self.process.pid, signal.SIGCONT)
        try:
            self.process.wait(4 * PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _changed_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def done(out: Path) -> set[str]:
    """Stages that are written down as done."""
    manifest = out / "manifest.json"
    return set(json.loads(manifest.read_text())["stages"]) if manifest.is_file() else set()


def rewind(out: Path, place: str) -> None:
    """As if a kill had come just before this stage."""
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    for stage in STAGES[STAGES.index(place) :]:
        manifest["stages"].pop(stage, None)
    measured = out / f"{PROFILE}.json"
    if measured.is_file() and not json.loads(measured.read_text())["valid"]:
        manifest["stages"].pop(PROFILE, None)  # the machine was busy: it is measured again, whatever comes behind it
    path.write_text(json.dumps(manifest))


def finish(out: Path) -> float:
    """Run to the end; returns the seconds."""
    run = Run(out)
    if run.process.wait() != 0:
        raise SystemExit(f"the run failed:\n{run.text[-2000:]}")
    return time.monotonic() - run.began


def weights(out: Path) -> dict[str, str]:
    """Hash of every file that a training leaves."""
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in WEIGHTS}


def faults(out: Path) -> list[str]:
    """What a finished run should not have: half-written files and folders, a training state, no report."""
    stray = [path for pattern in ("*.tmp", "*.old", "resume.pt") for path in out.rglob(pattern)]
    return [str(path.relative_to(out)) for path in stray] + ([] if (out / "report.html").is_file() else ["no report"])


@dataclass
class Tally:
    """What the kills did."""

    hits: dict[str, Counter[str]] = field(default_factory=lambda: {place: Counter() for place in (*PLACES, "end")})
    wrong_ends: list[str] = field(default_factory=list)
    longest_end_s: float = 0.0
    survivors: int = 0
    before_python: int = 0

    def kill(self, run: Run, name: str) -> None:
        """End a run by a signal, and look at how it ends."""
        if run.process.poll():
            raise SystemExit(f"ended by itself, with exit code {run.process.returncode}:\n{run.text[-2000:]}")
        run.freeze()
        place, heeds, began = run.place(), run.heeds(), time.monotonic()
        run.end(name)
        if run.process.returncode == 0:
            return  # it was done
        if not heeds:
            self.before_python += 1
        else:
            self.hits[place][name] += 1
        say(f"{place}: {name}: exit code {run.process.returncode} after {time.monotonic() - began:.1f} s")
        if heeds and name != "SIGKILL":
            self.longest_end_s = max(self.longest_end_s, time.monotonic() - began)
            lines = [line for line in run.text.splitlines() if line.startswith(LINE)]
            if run.process.returncode != 130 or len(lines) != 1 or "Traceback" in run.text:
                self.wrong_ends.append(f"{place}, {name}: exit code {run.process.returncode}: {run.text[-1500:]}")
        self.survivors += _outlived(run.process.pid)


def _outlived(group: int) -> bool:
    """Whether anything of a process group is left after a while; it is then ended."""
    deadline = time.monotonic() + PATIENCE_S
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
        return True
    return False


def disturb(out: Path, place: str, kills: int, longest_s: float, draw: random.Random, tally: Tally) -> None:
    """Kill runs in one place until it is enough."""
    for attempt in range(20 * kills):
        if (had := tally.hits[place].total()) >= kills:
            return
        if place in done(out):
            rewind(out, place)
        run = Run(out)
        while place != "start" and run.place() in ("start", *STAGES[: STAGES.index(place)]):
            if run.process.poll() is not None:
                break
            time.sleep(min(0.002, longest_s / 20))
        _pass(run, draw.uniform(0.0, longest_s))
        tally.kill(run, SIGNALS[had % len(SIGNALS)])
        say(f"{place}: {tally.hits[place].total()}/{kills} after {attempt + 1} starts")
    raise SystemExit(f"{place}: was not hit {kills} times in {20 * kills} starts")


def _pass(run: Run, seconds: float) -> None:
    """Let time go by; `wait` with a limit looks too seldom for stages of some hundredths of a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and run.process.poll() is None:
        time.sleep(min(0.01, max(deadline - time.monotonic(), 0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12, help="in each place")
    parser.add_argument("--stages", default=",".join(PLACES), help="places, of " + ",".join(PLACES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if strange := set(options.stages.split(",")) - set(PLACES):
        parser.error(f"no place: {', '.join(sorted(strange))} (there are {', '.join(PLACES)})")
    use_cores(1, pin=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, and inherited so, where a shell's background is
    began, draw, tally = time.monotonic(), random.Random(options.seed), Tally()
    with tempfile.TemporaryDirectory(prefix="edgekd-crash-") as folder:
        whole, out = Path(folder) / "undisturbed", Path(folder) / "run"
        seconds = finish(whole)
        say(f"undisturbed: {seconds:.0f} s")
        stages = json.loads((whole / "manifest.json").read_text())["stages"]
        longest = {stage: max(0.9 * entry["seconds"], 0.02) for stage, entry in stages.items()}
        longest["start"] = max(seconds - sum(entry["seconds"] for entry in stages.values()), 1.0)
        places = options.stages.split(",")
        if places[0] in STAGES[1:]:  # the stages before it need not be done again
            shutil.copytree(whole, out, symlinks=True)
            rewind(out, places[0])
        for place in places:
            disturb(out, place, options.kills, longest[place], draw, tally)
        finish(out)
        result = {
            "kills": sum(hits.total() for hits in tally.hits.values()),
            "kills_by_place": {place: dict(sorted(hits.items())) for place, hits in tally.hits.items() if hits},
            "identical": weights(out) == weights(whole),
            "faults": faults(out),
            "wrong_ends": tally.wrong_ends,
            "longest_end_s": round(tally.longest_end_s, 1),
            "survivors": tally.survivors,
            "before_python": tally.before_python,
            "undisturbed_s": round(seconds, 1),
        }
    print(json.dumps({
        "benchmark": "crash", "settings": vars(options), "environment": environment("torch", "ultralytics"), **result,
        "seconds": round(time.monotonic() - began, 1),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
