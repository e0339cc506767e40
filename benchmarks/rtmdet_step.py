"""What a training step of RTMDet costs: ours against the official code's, and what share its assignment and loss have.

    EDGEKD_MMDET=DIR python benchmarks/rtmdet_step.py --pin     # tests/detectors/rtmdet/official.py says what DIR holds
    python benchmarks/rtmdet_step.py --alone --batch 32         # without the official code: the share of the loss

A step is zero_grad, forward, assignment and loss, backward and AdamW, of networks with the same weights on the same
batch (random images and boxes). Steps alternate in one process, in random order. `loss_share` is assignment and loss,
forward and backward to the head's outputs, in parts of our step. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from paired import environment, interleave, ratio, seconds_of, use_cores

GOALS = {"ours / official": 1.1, "loss_share": 0.15}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny", choices=("tiny", "s", "m", "l", "x"))
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--objects", type=int, default=100, help="per image")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help="without the official code")
    parser.add_argument("--pin", action="store_true", help="keep the process on so many cores")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    steps = variants(options)
    for step in steps.values():
        step()  # the first one allocates
    times = interleave(steps, options.rounds)
    found = {"loss_share": ratio(times["loss"], times["ours"])}
    if "official" in times:
        found["ours / official"] = ratio(times["ours"], times["official"])
    verdicts = {name: found[name]["median"] <= goal for name, goal in GOALS.items() if name in found}
    print(json.dumps({
        "options": vars(options), "seconds": times, "ratios": found, "goals": GOALS, "reached": verdicts,
        **environment("torch"),
    }, indent=1))  # fmt: skip


def variants(options: argparse.Namespace) -> dict[str, Callable[[], float]]:
    """Seconds of one step each."""
    import torch

    from edgekd.cores import set_threads
    from edgekd.detectors.outputs import Batch, Guidance
    from edgekd.detectors.rtmdet.decode import boxes_px, grid
    from edgekd.detectors.rtmdet.detector import RTMDetDetector
    from edgekd.detectors.rtmdet.losses import detection_loss
    from edgekd.detectors.rtmdet.network import RTMDet
    from edgekd.detectors.rtmdet.scales import SCALES, STRIDES
    from edgekd.detectors.spec import NOTHING
    from tests.detectors.rtmdet.networks import lively

    set_threads(options.threads)
    side, count, total = options.imgsz, options.batch, options.batch * options.objects
    torch.manual_seed(0)
    corner = torch.rand(total, 2) * side * 0.8
    batch = Batch(
        torch.rand(count, 3, side, side), torch.arange(count).repeat_interleave(options.objects),
        torch.randint(0, 80, (total,)), torch.cat([corner, corner + 4 + torch.rand(total, 2) * side * 0.19], 1),
    )  # fmt: skip
    ours = RTMDetDetector(RTMDet(SCALES[options.scale], tuple(map(str, range(80)))).train(), "ours")
    lively(ours.module, spread=0.1)

    def our_loss() -> Any:
        return ours.training_pass(batch, NOTHING, Guidance()).loss.sum()

    with torch.no_grad():
        logits, distances = ours.network(batch.images)
    logits, distances = logits.requires_grad_(), distances.requires_grad_()
    points, strides = grid([(side // stride, side // stride) for stride in STRIDES], STRIDES, torch.device("cpu"))

    def loss_alone() -> None:
        found = detection_loss(logits.transpose(1, 2), boxes_px(distances, points, strides), points, strides, batch)
        torch.autograd.grad(found.classes + found.boxes, (logits, distances))

    steps = {"ours": _step(our_loss, ours.module), "loss": lambda: seconds_of(loss_alone)}
    return steps if options.alone else {**steps, "official": _official_step(options, ours, batch)}


def _official_step(options: argparse.Namespace, ours: Any, batch: Any) -> Callable[[], float]:
    """Of the official code, with the same weights on the same batch."""
    from tests.detectors.rtmdet import official

    side = options.imgsz
    theirs = official.build(options.scale, 80).train()
    theirs.load_state_dict(ours.module.state_dict())
    _, instances = official.registries()
    objects = [
        instances(bboxes=batch.boxes_px[batch.image_index == image], labels=batch.class_ids[batch.image_index == image])
        for image in range(options.batch)
    ]
    facts = [{"img_shape": (side, side), "pad_shape": (side, side)}] * options.batch

    def official_loss() -> Any:
        maps = theirs["neck"](theirs["backbone"](ours.network.normalised(batch.images)))
        losses = theirs["bbox_head"].loss_by_feat(*theirs["bbox_head"](maps), objects, facts)
        return sum(losses["loss_cls"]) + sum(losses["loss_bbox"])

    return _step(official_loss, theirs)


def _step(loss: Callable[[], Any], network: Any) -> Callable[[], float]:
    import torch

    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return lambda: seconds_of(step)


if __name__ == "__main__":
    main()
