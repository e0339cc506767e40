"""Several processes that meet: a program, which imports torch once and forks each process of each scenario.

    python -m tests.ranks.scenarios FOLDER

leaves FOLDER/<scenario>.<rank>.json: exit code, output, what it found, and when it ended. Every process is a machine of
its own, as far as it knows. All scenarios run at once: they wait more than they work.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekd import cli, ranks
from edgekd.cli import entry
from edgekd.errors import InputError
from edgekd.ranks import agreement
from edgekd.ranks.environment import stated
from tests.ports import free_port

DEADLINE_S = 300.0  # a guard against waiting for ever
Body = Callable[[Path], Any]


def exchange(_: Path) -> Any:
    """All collectives, once; the exit code is rank 0's."""
    own, counted = join(), []
    found = {
        "world": [own.rank, own.size, own.local_rank, own.local_size],
        "broadcast": ranks.broadcast({"from": own.rank}),
        "on_main": ranks.on_main(lambda: counted.append(own.rank) or [own.rank]),
        "counted": counted,
        "gather": ranks.gather("x" * own.rank),
        "any": ranks.agree(own.rank == 1),
        "none": ranks.agree(False),
    }
    return found, ranks.leave(7 + own.rank)


def memories(_: Path) -> Any:
    """Vectors of former steps: one of rank 0, two of rank 1, and one of rank 1 that is not finite."""
    import torch

    from edgekd.distill.region.contrast import Memory

    own, memory = join(), Memory(4, 1)
    given = torch.tensor([[1.0]] if own.rank == 0 else [[2.0], [float("nan")], [3.0]])
    memory.add(given, 0)
    memory.add(given, 1)
    return {"vectors": memory.vectors.flatten().tolist(), "place": memory.place.item()}, ranks.leave(0)


def shares(_: Path) -> Any:
    """Automatic weights, by losses that differ from rank to rank."""
    import torch

    from edgekd.training.weighting import AutoWeight

    own, auto = join(), AutoWeight(share=0.5)
    steps = [auto.of(torch.tensor(1.0 + 2 * own.rank + step), torch.tensor(2.0 - own.rank)) for step in range(2)]
    return {"weights": [float(one) for one in steps], "state": auto.state()}, ranks.leave(0)


def through_slurm(folder: Path) -> Any:
    """The same in a SLURM step, whose variables the engine does not know."""
    rank, size = os.environ.pop("RANK"), os.environ.pop("WORLD_SIZE")
    os.environ |= {"SLURM_STEP_ID": "0", "SLURM_PROCID": rank, "SLURM_NTASKS": size, "SLURM_LOCALID": rank}
    found, code = exchange(folder)
    return {**found, "engine": [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]}, code


def signals_while_waiting(folder: Path) -> Any:
    """Rank 1 waits for rank 0 when its alarm clock rings; rank 0 comes once it has heard it."""
    join()
    rang = folder / "rang"
    signal.signal(signal.SIGALRM, lambda *_: rang.touch())
    deadline = time.monotonic() + DEADLINE_S / 2
    if ranks.rank() == 1:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
    while ranks.rank() == 0 and not rang.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    heard = rang.exists()
    ranks.wait()
    return {"heard": heard}, ranks.leave(0)


def directories_of_their_own(folder: Path) -> Any:
    """Every rank has the same path, on a disk of its own."""
    join()
    agreement._SEEN_WITHIN_S = 0.2
    own = folder / f"disk{ranks.rank()}"
    own.mkdir()
    return finish(lambda: agreement.require_shared(own, "recipe"))


def recipes_of_their_own(folder: Path) -> Any:
    join()
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    return finish(lambda: agreement.require_shared(shared, f"epochs: {ranks.rank() // 2}"))


def files_of_their_own(_: Path) -> Any:
    join()
    return finish(lambda: agreement.require_same("student", str(ranks.rank() == 2)))


def error_on_rank_1(folder: Path) -> Any:
    def run() -> Any:
        if ranks.rank() == 1:
            raise InputError("r.yaml: what rank 1 found")
        ranks.wait()

    return command(folder, run)


def same_error_on_all(folder: Path) -> Any:
    def run() -> Any:
        raise InputError("r.yaml: what all found", "r.yaml: and more")

    return command(folder, run)


def bug_on_rank_0(folder: Path) -> Any:
    def run() -> Any:
        if ranks.rank() == 0:
            raise ZeroDivisionError("boom")
        ranks.broadcast(None)

    return command(folder, run)


def killed(folder: Path) -> Any:
    def run() -> Any:
        if ranks.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.gather(0)

    return command(folder, run)


def verdict(folder: Path) -> Any:
    outcome = types.SimpleNamespace(result=None, text="gate: inconclusive", exit_code=3)
    other = types.SimpleNamespace(result=None, text="nobody reads this", exit_code=0)
    return command(folder, lambda: outcome if ranks.is_main() else other)


def another_number_of_processes(folder: Path) -> Any:
    return command(folder, lambda: None, "--set", "train.gpus_per_node=4", "--set", "train.nodes=2")


SCENARIOS: dict[str, tuple[int, Body]] = {
    body.__name__: (count, body)
    for count, body in (
        (3, exchange), (2, memories), (2, shares), (2, through_slurm), (2, signals_while_waiting),
        (2, directories_of_their_own), (3, recipes_of_their_own), (3, files_of_their_own), (3, error_on_rank_1),
        (2, same_error_on_all), (3, bug_on_rank_0), (3, killed), (2, verdict), (2, another_number_of_processes),
    )
}  # fmt: skip


def join() -> ranks.World:
    said = stated(os.environ)
    assert said is not None
    ranks.join(said.world, said.address, said.port, hosted=said.hosted, timeout_s=DEADLINE_S)
    return ranks.world()


def finish(action: Callable[[], None]) -> Any:
    """As the command line ends, without its import of the pipeline."""
    try:
        action()
        ranks.wait()
    except InputError as error:
        entry.fail(error.problems, error.exit_code, [])
    except Exception as error:
        entry.fail(error.problems, error.exit_code, [])  # type: ignore[attr-defined]
    return {}, ranks.leave(0)


def command(folder: Path, run: Callable[[], Any], *more: str) -> Any:
    """`edgekd distill` with another pipeline."""
    pipeline: Any = types.ModuleType("edgekd.pipeline")
    pipeline.run = lambda *_, **__: run()
    sys.modules["edgekd.pipeline"] = pipeline
    recipe = folder / "r.yaml"
    cli.main(["distill", str(recipe), "--out", str(folder / "out"), *more])


def in_child(name: str, body: Body, rank: int, folder: Path) -> None:
    """Run one process of a scenario, and write down how it ended."""
    streams = [(folder / f"{name}.{rank}.{stream}").open("w") for stream in ("out", "err")]
    for number, stream in enumerate(streams, 1):
        os.dup2(stream.fileno(), number)
    found: Any = {}
    try:
        found, code = body(folder)
    except SystemExit as stop:
        code = int(stop.code or 0)
    sys.stdout.flush()
    (folder / f"{name}.{rank}.json").write_text(json.dumps({"found": found}))
    os._exit(code)


def main(folder: Path) -> None:
    import torch  # noqa: F401  (once, for all)
    import torch.distributed as dist

    assert dist.is_gloo_available()
    started: dict[int, tuple[str, int]] = {}
    for name, (count, body) in SCENARIOS.items():
        port = free_port()
        own = folder / name
        own.mkdir(parents=True)
        (own / "r.yaml").write_text("name: r\ntrain: {batch: 8}\n")
        for rank in range(count):
            pid = os.fork()
            if pid == 0:
                os.environ |= {
                    "RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
                    "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
                }  # fmt: skip
                in_child(name, body, rank, own)
            started[pid] = name, rank
    codes: dict[str, dict[int, int]] = {}
    deadline = time.monotonic() + DEADLINE_S
    while started and time.monotonic() < deadline:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            name, rank = started.pop(pid)
            codes.setdefault(name, {})[rank] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    for pid in started:
        os.kill(pid, signal.SIGKILL)
    (folder / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
