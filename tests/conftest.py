"""Fixtures that several rooms share. The engine keeps its settings in a temporary folder."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from multiprocessing.util import Finalize
from pathlib import Path

import pytest

from edgekd.openmp import bound_waiting

_BEHIND_MULTIPROCESSING = -200  # its own clean-up has -100

os.environ.setdefault("OMP_NUM_THREADS", "1")  # test processes run side by side
bound_waiting()
os.fsync = lambda number: None  # no test outlives a power cut; tests/test_atomic.py has the order of flushing


def pytest_collection_finish() -> None:
    """Tests and modules stay to the end: what looks for garbage need not walk through all of them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.yaml of an embedded data set of 24 + 8 + 8 images of 64 px."""
    from edgekd.data.digits import generate

    return generate(tmp_path_factory.mktemp("digits") / "set", imgsz=64, train=24, val=8, test=8, seed=0)


@pytest.fixture(scope="session", autouse=True)
def engine_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the engine's settings file out of the home folder, in child processes too."""
    os.environ["YOLO_CONFIG_DIR"] = str(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session", autouse=True)
def own_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for each test process: they run side by side, and the lock of this machine lies there. A short path.

    It goes last of all: multiprocessing has a folder of its own there, which it removes when the process ends.
    """
    tmp_path_factory.getbasetemp()  # made elsewhere
    folder = tempfile.mkdtemp(prefix="edgekd-")
    Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=_BEHIND_MULTIPROCESSING)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    yield
    tempfile.tempdir = None
    del os.environ["TMPDIR"]
