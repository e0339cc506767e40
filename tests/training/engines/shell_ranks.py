"""One of two ranks that train a student in a shell; what it ends with is written to a file.

python -m tests.training.engines.shell_ranks DATA_YAML OUT.pt RANK PORT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from edgekd import ranks
from edgekd.detectors import families
from edgekd.training.engines.shell import student_of
from tests.detectors.toy import ToyFamily


def main(data_yaml: Path, out: Path, rank: int, port: int) -> None:
    ranks.join(ranks.World(rank, 2, 0, 1), "localhost", port, hosted=False, timeout_s=60)
    torch.set_num_threads(1)
    families.family_names()  # the built-in ones first
    families.register(ToyFamily())
    from edgekd.training.engines.build import make_trainer
    from tests.training.engines import test_shell

    plan = test_shell.plan(data_yaml, test_shell.DISTILLERS, device="cpu", lr0=0.01)
    trainer = make_trainer(plan, test_shell.teachers(), out.with_suffix(""))
    losses: list[float] = []
    trainer.add_callback("on_train_batch_end", lambda engine: losses.append(engine.loss.item()))
    trainer.train()
    weights = {name: value.detach().clone() for name, value in student_of(trainer.model).named_parameters()}
    torch.save({"losses": losses, "weights": weights, "saved": trainer.last.exists()}, out)
    ranks.leave(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *(int(part) for part in sys.argv[3:]))
