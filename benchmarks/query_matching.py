"""What matching a student's queries with a teacher's costs beside a training step.

    python benchmarks/query_matching.py                          # 300 queries, 6 layers, batch 16; rtdetr-l at 320 px
    python benchmarks/query_matching.py --model rtdetr-p --size 96

Prints one JSON object: milliseconds of all costs and all solutions of a step, with one call per image and layer on one
thread (`plain`), and as methods do it (`edgekd`); the step of a student, forward and backward, without distillation;
and the share of matching in both together. Processor seconds of the whole process stand beside wall-clock ones, since
another process may be at work. Random predictions are the hardest to match: those of trained detectors agree.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rtdetr-l")
    parser.add_argument("--size", type=int, default=320, help="side of the images in px")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=4, help="images of one pass; the step is several, added up")
    asked = parser.parse_args()
    step = timed(step_of(asked), asked.repeats)
    step = {name: value * asked.batch / asked.chunk for name, value in step.items()}
    plain, ours = (timed(one, asked.repeats) for one in matchings(asked))
    share = {name: ours[name] / (ours[name] + step[name]) for name in ours}
    print(json.dumps({**vars(asked), "step": step, "plain": plain, "edgekd": ours, "share": share}))


def timed(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Medians in ms, after one repetition that does not count."""
    wall, processor = [], []
    for turn in range(repeats + 1):
        before = time.perf_counter(), time.process_time()
        work()
        if turn:
            wall.append(1000 * (time.perf_counter() - before[0]))
            processor.append(1000 * (time.process_time() - before[1]))
    return {"wall_ms": median(wall), "processor_ms": median(processor)}


def matchings(asked: argparse.Namespace) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The plain way and the methods', for the same predictions of both sides."""
    import torch
    from scipy.optimize import linear_sum_assignment

    from edgekd.detectors.outputs import Batch
    from edgekd.distill.queries import Answers, QueryConfig, answer_cost, matched_answers

    generator = torch.Generator().manual_seed(0)
    none = torch.zeros(0, dtype=torch.int64)
    batch = Batch(torch.zeros(asked.batch, 3, 640, 640), none, none, torch.zeros(0, 4))

    def side() -> list[Answers]:
        found = []
        for _ in range(asked.layers):
            corner = torch.rand(asked.batch, asked.queries, 2, generator=generator) * 500
            extent = torch.rand(asked.batch, asked.queries, 2, generator=generator) * 139 + 1
            logits = torch.randn(asked.batch, asked.queries, 80, generator=generator) * 2 - 3
            found.append(Answers(logits, torch.cat([corner, corner + extent], -1)))
        return found

    ours, theirs = side(), side()

    def plain() -> None:
        for one, other in zip(ours, theirs, strict=True):
            for image in answer_cost(one, other, batch, (1.0, 5.0, 2.0)):
                linear_sum_assignment(image.numpy())

    return plain, lambda: matched_answers(ours, theirs, batch, QueryConfig(), None)


def step_of(asked: argparse.Namespace) -> Callable[[], Any]:
    """Forward, loss and backward of a student on some images of four objects each."""
    import torch

    from edgekd.detectors import families
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.outputs import Guidance
    from edgekd.detectors.spec import NOTHING
    from edgekd.training.engines.batch import batch_of
    from edgekd.training.engines.shell import introduce, network_of

    names = tuple(map(str, range(80)))
    student = families.trainable(families.open_detector(None, Asked(asked.model, None, names, 3, "model")), "model")
    introduce(network_of(student, names), names)
    student.module.train().requires_grad_(True)
    generator = torch.Generator().manual_seed(1)
    count = asked.chunk * 4
    batch = batch_of({
        "img": torch.rand(asked.chunk, 3, asked.size, asked.size, generator=generator),
        "batch_idx": torch.arange(asked.chunk).repeat_interleave(4).float(),
        "cls": torch.randint(0, 80, (count, 1), generator=generator).float(),
        "bboxes": torch.rand(count, 4, generator=generator) * 0.3 + 0.2,
    })  # fmt: skip

    def step() -> None:
        torch.autograd.backward(student.training_pass(batch, NOTHING, Guidance()).loss.sum())

    return step


if __name__ == "__main__":
    main()
