"""What UniKD costs a training step: beside a plain step, with the teacher asked and with its knowledge at hand.

    python benchmarks/unikd_step.py                                # digits' sizes: about a minute
    python benchmarks/unikd_step.py --students yolo11n --imgsz 160 --queries 200 --width 256

Batches of 16 random images with three boxes each, on one thread, untrained networks; processor time, the least of
`--rounds`. `plain` is the student's own forward, loss and backward; `known` the same with UniKD's terms of knowledge
that is there already; `teacher` and `knowledge` are what asking online adds. `absorb` is a step of the extractors'
training, the teacher's forward included, and `teacher_plain` one of the teacher's own. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

CLASS_NAMES = tuple("abcdefghij")
BATCH = 16


def step(student: str, teacher: str, px: int, rounds: int, keys: dict[str, Any]) -> dict[str, Any]:
    """One pair at one size."""
    import torch

    from edgekd.detectors import families
    from edgekd.detectors.capture import run
    from edgekd.detectors.contract import Asked, Trainable
    from edgekd.detectors.outputs import Batch, Guidance
    from edgekd.detectors.spec import NOTHING
    from edgekd.distill.contract import Moment, Pair
    from edgekd.distill.query.keys import UniKDConfig
    from edgekd.distill.query.unikd import UniKD
    from edgekd.training.engines.shell import introduce

    torch.set_num_threads(1)
    ours, theirs = (
        families.open_detector("ultralytics", Asked(name, None, CLASS_NAMES, 3, name)) for name in (student, teacher)
    )
    method = UniKD(UniKDConfig(**keys), Pair.of(ours.spec, theirs, range(10), CLASS_NAMES))
    tutor, preparation = theirs.frozen(), method.preparation()
    learner, master = families.trainable(ours, student), families.trainable(theirs, teacher)
    for one in (learner, master):
        introduce(one.module, CLASS_NAMES)
        one.module.train()
    images, index = torch.rand(BATCH, 3, px, px), torch.arange(BATCH).repeat_interleave(3)
    low = torch.rand(3 * BATCH, 2) * px / 2
    boxes, classes = torch.cat([low, low + 0.3 * px], 1), torch.randint(10, (3 * BATCH,))
    relative = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1) / px
    engine = {"img": images, "cls": classes[:, None].float(), "bboxes": relative, "batch_idx": index.float()}
    batch = Batch(images, index, classes, boxes, engine=engine)
    moment = Moment(0, 0.0, 1, torch.Generator())

    def plain(trained: Trainable = learner) -> None:
        trained.module.zero_grad()
        trained.training_pass(batch, NOTHING, Guidance()).loss.sum().backward()

    @torch.no_grad()
    def ask() -> Any:
        return run(tutor, images, method.wiring.teacher)

    output = ask()
    know = torch.no_grad()(lambda: method.knowledge(output, batch))
    kept = know()

    def known() -> None:
        learner.module.zero_grad()
        found = learner.training_pass(batch, method.wiring.student, Guidance())
        terms = torch.stack(list(method.terms(found.output, kept, batch, moment).values()))
        (found.loss.sum() + BATCH * terms.sum()).backward()

    def absorb() -> None:
        assert preparation.knowledge is not None
        preparation.module.zero_grad()
        found = preparation.loss(preparation.knowledge(ask(), batch), batch, moment.generator)
        torch.stack(list(found.values())).sum().backward()

    actions = {
        "plain": plain, "known": known, "teacher": ask, "knowledge": know, "absorb": absorb,
        "teacher_plain": lambda: plain(master),
    }  # fmt: skip
    times = {name: _least_ms(one, rounds) for name, one in actions.items()}
    size = sum(value[0].numel() * (2 if value.is_floating_point() else 1) for value in kept.values())
    return {
        "student": student, "teacher": teacher, "imgsz": px, **keys,
        **{f"{name}_ms": round(value, 1) for name, value in times.items()},
        "known_over_plain": round(times["known"] / times["plain"], 2),
        "absorb_over_teacher_plain": round(times["absorb"] / times["teacher_plain"], 2),
        "adapter_parameters": sum(value.numel() for value in method.parameters()),
        "knowledge_bytes_per_image_fp16": size,
    }  # fmt: skip


def _least_ms(action: Callable[[], Any], rounds: int) -> float:
    action()
    found = []
    for _ in range(rounds):
        before = time.process_time()
        action()
        found.append(time.process_time() - before)
    return min(found) * 1000


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", default=["yolo11p"])
    parser.add_argument("--teacher", default="yolo11n")
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", nargs="+", type=int, default=[2, 1, 0], help="of the adapter")
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    rows = [
        step(student, options.teacher, options.imgsz, options.rounds,
             {"queries": options.queries, "width": options.width, "adapter_layers": layers})
        for student in options.students
        for layers in options.layers
    ]  # fmt: skip
    print(json.dumps({"batch": BATCH, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
