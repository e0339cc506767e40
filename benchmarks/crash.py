"""Does a run survive? `edgekd run` is killed (SIGKILL) at random moments and started again, until it has been killed
often enough; every run that finishes is compared with one that nobody disturbed.

    python benchmarks/crash.py                     # 100 kills, about 25 minutes on 2 quiet cores
    python benchmarks/crash.py --kills 20 --seed 1

The run is the quickstart's with few images: data, teacher, control, student, one export, validation, profile, gate,
report, with the training state kept before every batch. `identical` counts the finished runs whose weights of control
and student are those of the undisturbed run byte for byte; `kills_by_stage` says where the run stood.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from paired import ROOT, environment, say, use_cores

RECIPE = ROOT / "recipes" / "quickstart.yaml"
CHANGES = (
    "data.train=96", "data.val=16", "data.test=8", "train.epochs=6", "train.mosaic=0.5", "train.close_mosaic=1",
    "train.checkpoint_minutes=0.00001", "threads=1", "export=[onnx-fp32]", "gate={}", "profile.protocol=quick",
)  # fmt: skip
STAGES = ("data", "teacher", "control", "accuracy/control", "student", "accuracy/student", "export/onnx-fp32",
          "validate/onnx-fp32@local", "profile/onnx-fp32@local", "gate", "report")  # fmt: skip
WEIGHTS = ("control/student.pt", "student/student.pt", "student/terms.csv", "student/epochs.csv")


def start(out: Path) -> subprocess.Popen[bytes]:
    """`edgekd run` in a process group of its own, so that nothing it started outlives it."""
    changes = [part for change in CHANGES for part in ("--set", change)]
    command = [sys.executable, "-m", "edgekd.cli", "run", str(RECIPE), "--out", str(out), *changes]
    log = (out.parent / f"{out.name}.log").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)


def finish(out: Path) -> float:
    """Run to the end; returns the seconds."""
    began = time.monotonic()
    if start(out).wait() != 0:
        raise SystemExit(f"the run failed:\n{(out.parent / f'{out.name}.log').read_text()[-2000:]}")
    return time.monotonic() - began


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, to the run and to what it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def stage_of(out: Path) -> str:
    """The first stage that is not written down as done."""
    manifest = out / "manifest.json"
    done = json.loads(manifest.read_text())["stages"] if manifest.is_file() else {}
    return next((stage for stage in STAGES if stage not in done), "after the last stage")


def weights(out: Path) -> dict[str, str]:
    """Hash of every file that a training leaves."""
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in WEIGHTS}


def faults(out: Path) -> list[str]:
    """What a finished run should not have: half-written files, a training state, no report."""
    stray = [str(path.relative_to(out)) for path in out.rglob("*.tmp")] + [str(p) for p in out.rglob("resume.pt")]
    return stray + ([] if (out / "report.html").is_file() else ["no report.html"])


def disturb(folder: Path, kills: int, longest_s: float, seed: int) -> dict[str, Any]:
    """Kill runs until it is enough; the last one is left to finish."""
    draw = random.Random(seed)
    where: Counter[str] = Counter()
    finished = [folder / "run-1"]
    while where.total() < kills:
        out = finished[-1]
        process = start(out)
        try:
            code = process.wait(timeout=draw.uniform(0.0, longest_s))
        except subprocess.TimeoutExpired:
            kill(process)
            where[stage_of(out)] += 1
            say(f"kill {where.total()}/{kills} of {out.name}, in {stage_of(out)}")
            continue
        if code != 0:
            raise SystemExit(f"exit code {code}:\n{(folder / f'{out.name}.log').read_text()[-2000:]}")
        say(f"{out.name} finished")
        finished.append(folder / f"run-{len(finished) + 1}")
    finish(finished[-1])
    return {"kills_by_stage": dict(where.most_common()), "finished": finished}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    use_cores(1, pin=False)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgekd-crash-") as folder:
        whole = Path(folder) / "undisturbed"
        seconds = finish(whole)
        say(f"undisturbed: {seconds:.0f} s")
        expected = weights(whole)
        effort = json.loads((whole / "student" / "training.json").read_text())
        found = disturb(Path(folder), options.kills, 0.5 * seconds, options.seed)
        finished = found.pop("finished")
        result = {
            "kills": options.kills,
            **found,
            "finished": len(finished),
            "identical": sum(weights(out) == expected for out in finished),
            "faults": {out.name: faults(out) for out in finished if faults(out)},
            "undisturbed_s": round(seconds, 1),
            "saving_share_when_every_batch_is_saved": round(effort["saving_seconds"] / effort["seconds"], 4),
        }
    print(json.dumps({
        "benchmark": "crash", "settings": vars(options), "environment": environment("torch", "ultralytics"), **result,
        "seconds": round(time.monotonic() - began, 1),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
