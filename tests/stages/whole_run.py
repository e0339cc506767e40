"""The finished tiny run that several test modules look at: made once, by a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekd.data.digits import generate
from tests.stages.tiny import CAP_SECONDS, PROTOCOL, Ended, short_protocol, snapshot, weights, write_recipe

DRIVER = f"""
from edgekd.cli import main
from edgekd.devices import run_agent
from edgekd.measure.latency import PROTOCOLS, Protocol
PROTOCOLS["quick"] = {PROTOCOL!r}
run_agent._WARMUP_CAP_SECONDS["quick"] = {CAP_SECONDS}
main()
"""


@dataclass(frozen=True)
class Whole:
    """The finished run, and what its process left elsewhere."""

    recipe: Path
    run: Path
    ended: Ended
    home: Path
    cwd: Path
    data: Path
    data_before: dict[str, bytes]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    data, home, cwd = (folder / name for name in ("data", "home", "cwd"))
    generate(data, imgsz=64, train=24, val=16, test=8, seed=0)
    for name in (home, cwd):
        name.mkdir()
    recipes = folder / "recipes"
    recipes.mkdir()
    weights(recipes / "teacher.safetensors", "yolo11n")
    weights(recipes / "student.safetensors", "yolo11p")
    recipe = write_recipe(recipes / "tiny.yaml", data={"format": "yolo", "path": "../data/data.yaml"})
    before = snapshot(data)
    environment = {key: value for key, value in os.environ.items() if key not in ("YOLO_CONFIG_DIR", "MPLCONFIGDIR")}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, "run", str(recipe), "--out", str(folder / "run"), "--json"],
        capture_output=True, text=True, check=False, cwd=cwd,
        env={**environment, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Whole(recipe, folder / "run", Ended(0, done.stdout, done.stderr), home, cwd, data, before)


@pytest.fixture
def run(whole: Whole, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    return Path(shutil.copytree(whole.run, tmp_path / "run", symlinks=True))


@pytest.fixture
def short() -> Iterator[None]:
    """Profiles take a fraction of a second."""
    with short_protocol():
        yield
