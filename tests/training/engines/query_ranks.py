"""A training of one epoch of a detector with queries, as one of two ranks: methods ask both decoders and match.

python -m tests.training.engines.query_ranks DATA_YAML OUT.pt RANK PORT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from edgekd import ranks


def main(data_yaml: Path, out: Path, rank: int, port: int) -> None:
    ranks.join(ranks.World(rank, 2, 0, 1), "localhost", port, hosted=False, timeout_s=300)
    torch.set_num_threads(1)
    from edgekd.distill.config import EMA, MAIN
    from edgekd.training.engines.build import make_trainer
    from edgekd.training.teacher import EmaTeacher
    from tests.training import helpers

    chosen = helpers.methods(
        kd_detr={"general": 10, "specific": 10, "content": "teacher"},
        detrdistill={"matched": 20},
        clockdistill={},
        od_detr={"teacher": EMA, "layers": "last"},
    )
    tutors = {MAIN: helpers.teacher("rtdetr-n"), EMA: EmaTeacher(helpers.detector("rtdetr-p").spec)}
    trainer = make_trainer(
        helpers.plan(data_yaml, "rtdetr-p", chosen, batch=4, device="cpu"),
        tutors,  # type: ignore[arg-type]
        out.parent / f"work{rank}",
    )
    trainer.train()
    module = trainer.model.module
    torch.save(
        {
            "student": {name: value.detach().clone() for name, value in module.student.named_parameters()},
            "adapters": {name: value.detach().clone() for name, value in module.distillers.named_parameters()},
        },
        out,
    )
    ranks.leave(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *(int(part) for part in sys.argv[3:]))
