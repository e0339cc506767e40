"""What changes while edgekd works: the data set, the clock, the memory that is left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import edgekd as package
from edgekd.blame import blame
from edgekd.devices import remote
from edgekd.devices.unfinished import Unfinished
from edgekd.errors import EnvironmentFault, InputError
from edgekd.progress import progress
from edgekd.run_dir import RunDir
from edgekd.stages import train as train_stages
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context
from edgekd.training import fit
from edgekd.training.plan import FitResult
from edgekd.training.resume import Resume
from tests.data.small_sets import label, picture, yolo_set
from tests.hostile.trial import require_plain


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    yolo_set(tmp_path)
    (tmp_path / "r.yaml").write_text("name: a\ndata: {format: yolo, path: data.yaml}\nstudent: {model: yolo11p}\n")
    bound = bind_recipe(tmp_path / "r.yaml")
    with RunDir.held(tmp_path / "run", "a", tmp_path, bound.locked()) as run:
        yield Context(bound, run)


CHECK = [sys.executable, "-m", "edgekd.cli", "check", "quickstart", "--architecture-only"]
CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "another image": (lambda root: picture(root / "images/train/a.png", seed=9), "data: train: 2 images were read"),
    "another label": (lambda root: label(root, "val", "a", "0 0.5 0.5 0.5 0.5"), "data: val: 2 images were read"),
    "one more image": (lambda root: picture(root / "images/train/c.png", seed=9), "2 images were read before, 3 now"),
    "one image less": (lambda root: (root / "images/train/a.png").unlink(), "2 images were read before, 1 now"),
    "half an image": (lambda root: os.truncate(root / "images/val/b.png", 60), "unreadable image"),
    "no labels": (lambda root: (root / "labels/train/a.txt").write_text("x\n"), "train"),
    "other names": (lambda root: (root / "data.yaml").write_text("names: [a]\ntrain: images/no\nval: images/no\n"), ""),
    "nothing at all": (lambda root: (root / "data.yaml").unlink(), "data.yaml"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_data_that_changes_during_a_training_ends_it(
    change: str, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights would stand in the manifest beside the hash of data that they were not trained on."""
    spoil, text = CHANGES[change]

    def trained(*_: object) -> FitResult:
        spoil(tmp_path)
        return FitResult(tmp_path / "student.pt", 1, 1.0, 0.0)

    assert len(context.data.splits["train"].images) == 2
    monkeypatch.setattr(train_stages, "fit", trained)
    training = train_stages.Training(None, {}, "x")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="was changed while the student was trained") as caught:
        train_stages._train(context, train_stages.Trained("student"), training, Resume(tmp_path / "resume.pt", {}, 1))
    assert "--fresh" in caught.value.problems[0]
    assert any(text in problem for problem in caught.value.problems[1:]), caught.value.problems
    for problem in caught.value.problems:
        require_plain(problem)
    assert not (context.path / "student" / "training.json").exists()


def test_data_that_is_only_touched_does_not(context: Context, tmp_path: Path) -> None:
    assert context.data.splits
    for path in tmp_path.glob("images/*/*.png"):
        os.utime(path, (1, 1))
    context.require_same_data("it was looked at")


@pytest.mark.parametrize("how", ["is killed by signal: Killed. ", "exited unexpectedly"])
def test_a_loader_that_the_kernel_ends_is_no_bug(how: str, tmp_path: Path) -> None:
    """The words of torch where a memory limit, of a cgroup say, ends one of its processes."""

    class Trainer:
        def train(self) -> None:
            raise RuntimeError(f"DataLoader worker (pid 7) {how}")

    with pytest.raises(
        EnvironmentFault, match=r"ended from outside, most often since memory ran out; lower train\.wor"
    ):
        fit._run(Trainer(), Resume(tmp_path / "resume.pt", {}, 1), tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), OSError(12, "Cannot allocate memory"), RuntimeError("CPUAllocator: can't allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"), RuntimeError("std::bad_alloc"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_no_memory_is_no_bug(error: Exception) -> None:
    blamed = blame(error)
    assert blamed is not None
    assert blamed.exit_code == 4
    assert blamed.problems[0].startswith("memory: not enough of it")


@pytest.mark.parametrize("megabytes", [200, 400])
def test_little_address_space(megabytes: int) -> None:
    ended = subprocess.run(
        ["sh", "-c", 'ulimit -v "$1"; shift; exec "$@"', "sh", str(megabytes << 10), *CHECK],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 4, ended.stderr[-500:]
    assert "edgekd: error: memory: not enough of it" in ended.stderr


class TestTheClock:
    @pytest.fixture(params=[-1e9, -3600.0, 3600.0, 1e9])
    def jumping(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
        """The wall clock jumps by so many seconds every time somebody looks."""
        step, looks, began = float(request.param), count(), time.time()
        monkeypatch.setattr(time, "time", lambda: began + step * next(looks))
        return step

    def test_seconds_of_a_stage(self, jumping: float, tmp_path: Path) -> None:
        with RunDir.held(tmp_path / "run", "a", tmp_path, "name: a\n") as run:
            run.stage("data", {}, lambda: [])
            assert 0 <= run.manifest["stages"]["data"]["seconds"] < 60

    def test_seconds_of_a_training(self, jumping: float, tmp_path: Path) -> None:
        resume = Resume(tmp_path / "resume.pt", {}, 1)
        assert 0 <= resume.elapsed() < 60
        assert 0 <= resume.elapsed() < 60

    def test_the_remaining_time(self, jumping: float, capsys: pytest.CaptureFixture[str]) -> None:
        with progress("x", 2) as advance:
            advance()
            advance()
        assert all(int(number) < 1000 for number in re.findall(r"\d+", capsys.readouterr().err))

    @pytest.mark.parametrize(("age_s", "kept"), [(-86_400, 0), (-60, 1), (60, 1), (86_400, 0)])
    def test_processes_of_an_unfinished_profile(self, age_s: int, kept: int, tmp_path: Path) -> None:
        """Kept for some hours; how old a file of the future is, nobody knows."""
        record: Any = tmp_path / "samples.jsonl"
        Unfinished(record, {}).add([{"event": "x"}])
        (partial,) = tmp_path.iterdir()
        os.utime(partial, (time.time() - age_s,) * 2)
        assert len(Unfinished(record, {}).processes) == kept

    def test_a_device_whose_clock_is_set(self, tmp_path: Path) -> None:
        """A board without a battery starts in 1970 and is set right while it measures."""
        jumps = f'date() {{ printf x >>{tmp_path}/looks; echo "$(($(wc -c <{tmp_path}/looks) * 1000))"; }}\n'
        words = ["sh", "-c", jumps + remote._PROGRAM, "edgekd", "60", "0.05", "sh", "-c", "sleep 0.5; echo done"]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        assert (process.stdout.read(), process.wait(60)) == (b"done\n", 0)

    def test_no_time_is_taken_from_the_wall_clock(self) -> None:
        folder = Path(package.__file__).parent
        wall = re.compile(r"\btime\.time\(|\btime\.time_ns\(|\bdatetime\.(now|utcnow)\(")
        found = [str(path.relative_to(folder)) for path in folder.rglob("*.py") if wall.search(path.read_text("utf-8"))]
        assert found == ["devices/unfinished.py"]  # the age of a file
