"""Processes that work together, and end together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgekd import ranks


@dataclass(frozen=True)
class Ended:
    """How the processes of a scenario ended."""

    codes: list[int | None]
    found: list[dict[str, Any]]
    out: str
    lines: list[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all scenarios have run."""
    path = tmp_path_factory.mktemp("scenarios")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.ranks.scenarios", str(path)]
    subprocess.run(command, cwd=root, env=environment, check=True, timeout=900)
    return path


def ended(folder: Path, name: str) -> Ended:
    codes = json.loads((folder / "codes.json").read_text()).get(name, {})
    size = len(list((folder / name).glob(f"{name}.*.out")))
    texts = [(folder / name / f"{name}.{rank}.{kind}").read_text() for kind in ("out", "err") for rank in range(size)]
    found = []
    for rank in range(size):
        path = folder / name / f"{name}.{rank}.json"
        found.append(json.loads(path.read_text())["found"] if path.is_file() else {})
    lines = "".join(texts[size:]).splitlines()
    return Ended([codes.get(str(rank)) for rank in range(size)], found, "".join(texts[:size]), lines)


def test_alone_everything_is_done_at_once() -> None:
    assert (ranks.rank(), ranks.size(), ranks.is_main()) == (0, 1, True)
    assert ranks.broadcast("x") == "x"
    assert ranks.on_main(lambda: 3) == 3
    assert ranks.gather(4) == [4]
    assert [ranks.agree(True), ranks.agree(False)] == [True, False]
    assert ranks.is_first_to_fail()
    assert ranks.leave(5) == 5
    assert not ranks.is_loss(RuntimeError("gloo: connection closed by peer"))


def test_alone_nothing_is_imported() -> None:
    program = (
        "import sys; from edgekd import ranks; ranks.agree(True); ranks.gather(1); ranks.broadcast(1); ranks.wait()\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]


def test_exchange(folder: Path) -> None:
    end = ended(folder, "exchange")
    assert end.codes == [7, 7, 7]  # rank 0's
    for rank, found in enumerate(end.found):
        assert found["world"] == [rank, 3, 0, 1]
        assert found["broadcast"] == {"from": 0}
        assert found["on_main"] == [0]
        assert found["counted"] == ([0] if rank == 0 else [])
        assert found["gather"] == (["", "x", "xx"] if rank == 0 else [])
        assert (found["any"], found["none"]) == (True, False)
    assert end.lines == []


def test_vectors_of_former_steps_are_the_same_on_all_ranks(folder: Path) -> None:
    end = ended(folder, "memories")
    assert end.codes == [0, 0]
    assert end.found[0] == end.found[1] == {"vectors": [2.0, 3.0, 3.0, 1.0], "place": 2}


def test_automatic_weights_are_the_same_on_all_ranks(folder: Path) -> None:
    """Means of the ranks: losses 2, then 3, and terms of 1.5."""
    end = ended(folder, "shares")
    assert end.codes == [0, 0]
    assert end.found[0] == end.found[1], "weights and the state that a training is resumed from"
    first, second = end.found[0]["weights"]
    assert first == pytest.approx(0.5 * 2 / 1.5)
    assert second == pytest.approx(0.5 * (0.99 * 2 + 3) / 1.99 / 1.5)


def test_slurm_is_translated_for_the_engine(folder: Path) -> None:
    end = ended(folder, "through_slurm")
    assert end.codes == [7, 7]
    assert [found["engine"] for found in end.found] == [["0", "2", "0"], ["1", "2", "1"]]


def test_signals_are_heard_while_waiting(folder: Path) -> None:
    end = ended(folder, "signals_while_waiting")
    assert end.codes == [0, 0]
    assert end.found[0]["heard"], "the handler of the other rank ran only once this one had come"


@pytest.mark.parametrize(
    ("name", "code", "lines"),
    [
        ("error_on_rank_1", 2, ["edgekd: error: r.yaml: what rank 1 found"]),
        ("same_error_on_all", 2, ["edgekd: error: r.yaml: what all found", "edgekd: error: r.yaml: and more"]),
        ("bug_on_rank_0", 70, ["edgekd: bug: ZeroDivisionError: boom; please report it with the output of --debug"]),
    ],
)
def test_a_failure_ends_all_and_is_told_once(folder: Path, name: str, code: int, lines: list[str]) -> None:
    end = ended(folder, name)
    assert end.lines == lines
    assert end.codes == [code] * len(end.codes)


def test_a_killed_process_ends_all(folder: Path) -> None:
    end = ended(folder, "killed")
    assert end.codes == [4, -9, 4]
    assert end.lines == ["edgekd: error: another process ended without a word (killed?); the same command goes on"]


def test_rank_0_speaks_and_its_verdict_is_everyones(folder: Path) -> None:
    end = ended(folder, "verdict")
    assert (end.codes, end.out, end.lines) == ([3, 3], "gate: inconclusive\n", [])


def test_another_number_of_processes_is_refused(folder: Path) -> None:
    end = ended(folder, "another_number_of_processes")
    assert end.codes == [2, 2]
    (line,) = end.lines
    assert line.endswith(
        "r.yaml: train.nodes, train.gpus_per_node: ask for 2 x 4 = 8 processes, but torchrun started 2; "
        "start as many, or leave both keys out"
    )


@pytest.mark.parametrize(
    ("name", "code", "parts"),
    [
        ("directories_of_their_own", 4, ("cannot see what process 0 on ", "a file system that all nodes share")),
        ("recipes_of_their_own", 2, ("process 2 on ", "has another recipe, or another --set, than process 0 on ")),
        ("files_of_their_own", 2, ("stage 'student': process 2 on ", "has other weights, models or data")),
    ],
)
def test_what_ranks_must_share(folder: Path, name: str, code: int, parts: tuple[str, ...]) -> None:
    end = ended(folder, name)
    (line,) = end.lines
    assert all(part in line for part in parts), line
    assert end.codes == [code] * len(end.codes)
    assert not list((folder / name).rglob(".token-*"))
