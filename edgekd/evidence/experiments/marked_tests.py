"""The repository's own tests that need a GPU, `pytest -m gpu`, and those of a device, on the one that is asked for.

In miniature the first are collected, and others run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import edgekd
from edgekd.errors import EnvironmentFault
from edgekd.evidence import machine, sources
from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments.places import ENGINE, TEACHER, trained_on, versions

ROOT = Path(edgekd.__file__).parents[1]
GPU, DEVICE = "gpu tests", "device tests"
_GPU_CODE = (*ENGINE, *TEACHER)
# The other tests of that mark build a device of their own, which is emulated.
_DEVICE_TESTS = ("-m", "device", "tests/devices/test_given.py")
_VARIABLE = "EDGEKD_TEST_DEVICE"  # that they go by
_COLLECTION = "collection failure"  # all that pytest says of it in its report's message


def offers(setting: Setting) -> Iterator[Experiment]:
    """One of each."""
    absent = _absent(setting)
    yield Experiment(
        GPU, "the tests that need a GPU", "marked tests", 10, 180, {"tests": GPU}, absent or setting.lacks_gpus(),
        _GPU_CODE,
    )  # fmt: skip
    known = setting.here and setting.scale.name == "full"
    yield Experiment(
        DEVICE, "the tests of a device: files, programs and the agent get there", "marked tests", 45, 180,
        {"tests": DEVICE}, absent or ("is for devices elsewhere; this machine is none" if known else None),
        tuple(_reaching(setting)),
    )  # fmt: skip


def _absent(setting: Setting) -> str | None:
    if not (ROOT / "tests").is_dir():
        return "the tests are in the source tree, and edgekd is installed without it"
    return None if "pytest" in setting.machine["versions"] else "pytest is not installed"


def _reaching(setting: Setting) -> list[str]:
    device = setting.machine["device"]
    return [*sources.of_device(device["name"], device["transport"]), "testing/devices.py"]


def run(work: Work) -> None:
    """Outcome of every test, and why one failed or was skipped."""
    if work.arguments["tests"] == DEVICE:
        if _ran(work, _DEVICE_TESTS):
            work.shows(DEVICE, machine.where(work.setting.machine), _reaching(work.setting))
        return
    if work.scale.collected:
        work.keep(collected=_collected(work.scale.collected))
    if _ran(work, work.scale.tests):
        work.shows(GPU, trained_on(work), _GPU_CODE, versions(work))


def _ran(work: Work, asked: Sequence[str]) -> bool:
    """Run tests and keep what became of them; whether nothing speaks against the code."""
    report = work.folder / "report.xml"
    # A file that needs what this machine lacks cannot be collected; the others run.
    # Its own folder for what tests write: pytest would else remove what earlier runs left, however much that is.
    own = f"--basetemp={work.folder / 'tests'}"
    arguments = ("--continue-on-collection-errors", f"--junitxml={report}", own, *asked)
    done = _pytest(*arguments, device=work.setting.device)
    if not report.is_file():
        raise EnvironmentFault(f"pytest wrote no report (exit code {done.returncode})")
    cases = [_case(case) for case in ET.parse(report).getroot().iter("testcase")]
    counts = {kind: sum(case["outcome"] == kind for case in cases) for kind in ("passed", "failed", "skipped")}
    work.keep(exit_code=done.returncode, **counts, tests=cases)
    return fault(work.figures) is None


def fault(figures: Mapping[str, Any]) -> str | None:
    """A test that failed, none that passed, or one that could not be collected."""
    collected = figures.get("collected")
    if collected and (collected["exit_code"] or not collected["tests"]):
        return f"{collected['tests']} tests were collected (exit code {collected['exit_code']})"
    if "tests" not in figures:
        return None
    failed = [case for case in figures["tests"] if case["outcome"] == "failed"]
    if failed:
        return f"{len(failed)} of {len(figures['tests'])} tests failed: {_told(failed[0])}"
    if not figures["passed"]:
        skipped = [f": {_told(case)}" for case in figures["tests"][:1]]
        return f"no test passed, {figures['skipped']} were skipped{''.join(skipped)}"
    return f"pytest ended with exit code {figures['exit_code']}" if figures["exit_code"] else None


def _told(case: Mapping[str, Any]) -> str:
    return f"{case['test']} ({case['reason']})"


def _pytest(*arguments: str, device: str = "", stdout: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, _VARIABLE: device}
    return subprocess.run(command, cwd=ROOT, check=False, env=environment, stdout=stdout, text=True)


def _collected(arguments: Sequence[str]) -> dict[str, int]:
    """How many tests there are, and whether each file with some could be read."""
    done = _pytest("--collect-only", *arguments, stdout=subprocess.PIPE)
    sys.stdout.write(done.stdout)
    return {"exit_code": done.returncode, "tests": sum("::" in line for line in done.stdout.splitlines())}


def _case(case: ET.Element) -> dict[str, Any]:
    outcome, reason = "passed", None
    for kind, name in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if (found := case.find(kind)) is not None:
            outcome, reason = name, _reason(found)
    module = case.get("classname", "").rpartition("tests.")[2].replace(".", "/")
    return {
        "test": f"{module}::{case.get('name')}", "outcome": outcome, "reason": reason,
        "seconds": round(float(case.get("time", 0)), 1),
    }  # fmt: skip


def _reason(found: ET.Element) -> str:
    """What pytest says; of a file that cannot be collected, the last line of the traceback, which has the error."""
    said = found.get("message") or ""
    lines = [line[1:] for line in (found.text or "").splitlines() if line.startswith("E ")]
    return " ".join((lines[-1] if said == _COLLECTION and lines else said).split())[:400]


register("marked tests", offers, run, fault=fault)
