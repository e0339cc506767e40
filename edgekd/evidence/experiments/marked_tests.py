"""The repository's own tests that need a GPU: `pytest -m gpu`; in miniature they are collected, and others run."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import edgekd
from edgekd.errors import EnvironmentFault
from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments.places import ENGINE, TEACHER, trained_on, versions

ROOT = Path(edgekd.__file__).parents[1]
NAME = "gpu tests"
_COLLECTION = "collection failure"  # all that pytest says of it in its report's message


def offers(setting: Setting) -> Iterator[Experiment]:
    """Once."""
    lacking = setting.lacks_gpus()
    if not (ROOT / "tests").is_dir():
        lacking = "the tests are in the source tree, and edgekd is installed without it"
    elif "pytest" not in setting.machine["versions"]:
        lacking = "pytest is not installed"
    yield Experiment(
        NAME, "the tests that need a GPU", "marked tests", 10, 180, lacking=lacking, sources=(*ENGINE, *TEACHER)
    )


def run(work: Work) -> None:
    """Outcome of every test, and why one failed or was skipped."""
    if work.scale.collected:
        work.keep(collected=_collected(work.scale.collected))
    report = work.folder / "report.xml"
    # A file that needs what this machine lacks cannot be collected; the others run.
    done = _pytest("--continue-on-collection-errors", f"--junitxml={report}", *work.scale.tests)
    if not report.is_file():
        raise EnvironmentFault(f"pytest wrote no report (exit code {done.returncode})")
    cases = [_case(case) for case in ET.parse(report).getroot().iter("testcase")]
    counts = {kind: sum(case["outcome"] == kind for case in cases) for kind in ("passed", "failed", "skipped")}
    work.keep(exit_code=done.returncode, **counts, tests=cases)
    if fault(work.figures) is None:
        work.shows(NAME, trained_on(work), (*ENGINE, *TEACHER), versions(work))


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


def _pytest(*arguments: str, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, stdout=stdout, text=True)


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
