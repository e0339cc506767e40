"""Stores that are made by several processes, or by one that is killed, are the very store of one that is not."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from .test_knowledge import TRAIN, files, recipe
from .test_together import finished, start
from .tiny import edgekd, weights

pytestmark = pytest.mark.slow


def contents(store: Path) -> dict[str, bytes]:
    return {name: (store / name).read_bytes() for name in files(store)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with everything that augmentation has, and its store, made by one process in one go."""
    folder = tmp_path_factory.mktemp("ended")
    weights(folder / "teacher.safetensors", "yolo11n")
    weights(folder / "student.safetensors", "yolo11p")
    recipe(folder, train={**TRAIN, "epochs": 4, "mosaic": 0.5, "mixup": 0.3, "close_mosaic": 2, "device": "cpu"})
    assert edgekd("knowledge", folder / "tiny.yaml", "--out", folder / "run").code == 0
    return folder


def test_sigkill_loses_the_shard_in_hand_and_nothing_else(whole: Path) -> None:
    out, store = whole / "killed", whole / "killed" / "knowledge"
    command = ("knowledge", whole / "tiny.yaml", "--out", out)
    done: dict[str, int] = {}
    for wanted in (3, 9, 17):
        process = start(*command)
        deadline = time.monotonic() + 300
        while process.poll() is None and len(files(store)) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.communicate()
        after = files(store)
        assert len(after) >= wanted and {name: after[name] for name in done} == done
        done = after
    assert finished(start(*command))[0] == 0
    after = files(store)
    assert {name: after[name] for name in done} == done
    assert contents(store) == contents(whole / "run" / "knowledge")
    assert not list(store.rglob("*.tmp"))


def test_two_processes_write_the_same_store_and_train_from_it(whole: Path) -> None:
    out = whole / "two"
    code, _, err = finished(
        start("distill", whole / "tiny.yaml", "--out", out, "--set", "train.gpus_per_node=2", "--set", "train.batch=16")
    )
    assert code == 0, err
    assert contents(out / "knowledge") == contents(whole / "run" / "knowledge")
    assert "knowledge of the teacher: read from " in err
    assert (out / "student" / "terms.csv").is_file()


def test_a_training_that_reads_is_gone_on_with_bit_for_bit(whole: Path) -> None:
    store = ("--set", f"teacher.store={whole / 'run' / 'knowledge'}")
    command = ("distill", whole / "tiny.yaml", "--set", "train.checkpoint_minutes=0.00001", *store)
    assert finished(start(*command, "--out", whole / "straight"))[0] == 0
    process = start(*command, "--out", whole / "stopped")
    state, deadline = whole / "stopped" / "student" / "resume.pt", time.monotonic() + 600
    while process.poll() is None and not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, _, err = finished(process)
    assert code == 130, err
    assert finished(start(*command, "--out", whole / "stopped"))[0] == 0
    left: list[Any] = [(whole / name / "student" / "terms.csv").read_bytes() for name in ("straight", "stopped")]
    assert left[0] == left[1]
    weights_of = [(whole / name / "student" / "student.safetensors").read_bytes() for name in ("straight", "stopped")]
    assert weights_of[0] == weights_of[1]


def test_workers_read_beside_the_step(whole: Path) -> None:
    """With two workers, damage that a worker finds is one line and exit code 4."""
    folder = whole / "run" / "knowledge"
    shutil.copytree(folder, whole / "damaged")
    path = whole / "damaged" / "open-1" / "000002.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, _, err = finished(
        start("distill", whole / "tiny.yaml", "--out", whole / "workers", "--set", "train.workers=2",
              "--set", f"teacher.store={whole / 'damaged'}")
    )  # fmt: skip
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert code == 4, err
    assert "shard open-1/000002.safetensors is damaged (record 2 by its checksum), found at image 8" in line
