"""The repository's own tests that need a GPU: `pytest -m gpu`."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import edgekd
from edgekd.errors import EnvironmentFault
from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments.places import ENGINE, TEACHER, trained_on, versions

ROOT = Path(edgekd.__file__).parents[1]
NAME = "gpu tests"


def offers(setting: Setting) -> Iterator[Experiment]:
    """Once."""
    lacking = setting.lacks_gpus()
    if not (ROOT / "tests").is_dir():
        lacking = "the tests are in the source tree, and edgekd is installed without it"
    elif "pytest" not in setting.machine["versions"]:
        lacking = "pytest is not installed"
    yield Experiment(NAME, "the tests that need a GPU", "marked tests", 10, 180, lacking=lacking)


def run(work: Work) -> None:
    """Outcome of every test, and why one failed or was skipped."""
    report = work.folder / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--continue-on-collection-errors",  # of a file that needs what this machine lacks
        f"--junitxml={report}",
        *work.scale.tests,
    ]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if not report.is_file():
        raise EnvironmentFault(f"pytest wrote no report (exit code {done.returncode})")
    cases = [_case(case) for case in ET.parse(report).getroot().iter("testcase")]
    counts = {kind: sum(case["outcome"] == kind for case in cases) for kind in ("passed", "failed", "skipped")}
    work.keep(exit_code=done.returncode, **counts, tests=cases)
    if counts["passed"] and not counts["failed"]:
        work.shows(NAME, trained_on(work), (*ENGINE, *TEACHER), versions(work))


def _case(case: ET.Element) -> dict[str, Any]:
    outcome, reason = "passed", None
    for kind, name in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if (found := case.find(kind)) is not None:
            outcome, reason = name, " ".join((found.get("message") or "").split())[:400]
    module = case.get("classname", "").rpartition("tests.")[2].replace(".", "/")
    return {
        "test": f"{module}::{case.get('name')}", "outcome": outcome, "reason": reason,
        "seconds": round(float(case.get("time", 0)), 1),
    }  # fmt: skip


register("marked tests", offers, run)
