"""What methods on queries cost: processor seconds of a training step of `rtdetr-p` that learns from `rtdetr-n`.

    python benchmarks/query_step.py                      # every method with its defaults, 16 images of 96 px
    python benchmarks/query_step.py kd_detr dlim

Prints one JSON object: seconds of a step without distillation, and with each method; a step is the teacher's pass, the
student's, all losses and the backward pass, without the optimiser. Weights are random, the least of three steps counts,
and processor time is taken since another process may be at work.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

NAMES = tuple("0123456789")
METHODS = ("kd_detr", "detrdistill", "qskd", "clockdistill", "od_detr", "dlim")


def main() -> None:
    """Measure and print."""
    import torch

    torch.set_num_threads(1)
    student, teacher, batch = detectors_and_batch()
    seconds = {"none": step_s(student, teacher, batch, ())}
    for method in sys.argv[1:] or METHODS:
        seconds[method] = step_s(student, teacher, batch, (method,))
    print(json.dumps({"batch": batch.size, "step_s": {name: round(value, 2) for name, value in seconds.items()}}))


def detectors_and_batch() -> tuple[Any, Any, Any]:
    """Student, frozen teacher, and 16 images of four objects each."""
    import torch

    from edgekd.detectors import families
    from edgekd.detectors.contract import Asked
    from edgekd.training.engines.batch import batch_of
    from edgekd.training.engines.shell import introduce, network_of

    student, teacher = (
        families.open_detector("ultralytics", Asked(model, None, NAMES, 3, model)) for model in ("rtdetr-p", "rtdetr-n")
    )
    student = families.trainable(student, "student")
    introduce(network_of(student, NAMES), NAMES)
    student.module.train().requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    batch = batch_of({
        "img": torch.rand(16, 3, 96, 96, generator=generator),
        "batch_idx": torch.arange(16).repeat_interleave(4).float(),
        "cls": torch.randint(0, 10, (64, 1), generator=generator).float(),
        "bboxes": torch.rand(64, 4, generator=generator) * 0.3 + 0.2,
    })  # fmt: skip
    return student, teacher.frozen(), batch


def step_s(student: Any, teacher: Any, batch: Any, names: tuple[str, ...]) -> float:
    """Processor seconds of a step with methods."""
    import torch

    from edgekd.detectors.capture import run
    from edgekd.detectors.outputs import Guidance
    from edgekd.detectors.spec import Needs
    from edgekd.distill.contract import Moment, Pair, distiller_type

    pair = Pair.of(student.spec, teacher, list(range(len(NAMES))), NAMES)
    parts = [distiller_type(name)(distiller_type(name).config_type(), pair) for name in names]
    moment = Moment(0, 0.0, 10, torch.Generator().manual_seed(0))
    spent = []
    for _ in range(3):
        began = time.process_time()
        knowledge = []
        if parts:
            with torch.no_grad():
                output = run(teacher, batch.images, Needs.merged(part.wiring.teacher for part in parts))
                knowledge = [part.knowledge(output, batch) for part in parts]
        found = student.training_pass(batch, Needs.merged(part.wiring.student for part in parts), Guidance())
        total = found.loss.sum()
        for part, kept in zip(parts, knowledge, strict=True):
            total = total + sum(part.terms(found.output, kept, batch, moment).values())
        torch.autograd.backward(total)
        spent.append(time.process_time() - began)
    return min(spent)


if __name__ == "__main__":
    main()
