"""Three training steps and a validation, alone or as one of several ranks.

    python -m tests.training.engines.parallel_program DATA_YAML OUT.pt RANK SIZE PORT

Every rank is a machine of its own: two ranks are two one-process nodes.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from edgekd import ranks

STEPS, IMAGES = 3, 4
VAL_BATCH = 8  # so that 20 images are three batches, two of which are rank 0's


def train(data_yaml: Path, work: Path) -> dict[str, Any]:
    """Train, detect, and return what came out.

    Equal only by construction: the engine divides a loss by the sum of target scores of a rank's own batch, or by 1 if
    that is less, and batch norm sees a rank's own images. So each rank gets the same four images, a process alone gets
    them twice over, and the student is one that finds something. SGD, since the first step of Adam has the same length
    whatever the gradient: it would turn rounding into a step.
    """
    from edgekd.training.engines.build import make_trainer
    from tests.stages import tiny
    from tests.training import helpers, surveying

    train: dict[str, Any] = {
        "optimizer": "SGD", "lr0": 0.001, "momentum": 0.9, "warmup_epochs": 0.0, "batch": 2 * IMAGES, "nbs": 2 * IMAGES,
        "mosaic": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "translate": 0.0, "scale": 0.0, "fliplr": 0.0,
        "erasing": 0.0, "device": "cpu",
    }  # fmt: skip
    distillers = helpers.methods(logit={}, cwd={"weight": 1.0}, score_l2={}) + surveying.register()
    plan = helpers.plan(data_yaml, distillers=distillers, **train)
    plan = replace(plan, student=tiny.detector("yolo11p"), initialised=True)  # the engine's draw depends on the rank
    trainer = make_trainer(plan, helpers.teachers(), work)
    losses: list[float] = []
    metrics: dict[str, float] = {}
    batch_sizes: list[int] = []
    make_loader = trainer.get_dataloader

    def get_dataloader(path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        loader = make_loader(path, batch_size if mode == "train" else VAL_BATCH, rank, mode)
        if mode == "train":
            batch_sizes.append(batch_size)
            copies = 2 // ranks.size()
            first = [step * IMAGES for step in range(STEPS)]
            batches = _Batches([list(range(at, at + IMAGES)) * copies for at in first])
            object.__setattr__(loader._loader, "batch_sampler", batches)
        return loader

    trainer.get_dataloader = get_dataloader
    trainer.add_callback("on_train_batch_end", lambda engine: losses.append(engine.loss.item()))
    trainer.add_callback("on_model_save", lambda engine: metrics.update(engine.metrics))  # before the final evaluation
    trainer.train()
    module = getattr(trainer.model, "module", trainer.model)
    return {
        "losses": losses,
        "batch_sizes": batch_sizes,
        "student": {name: value.detach().clone() for name, value in module.student.named_parameters()},
        "adapters": {name: value.detach().clone() for name, value in module.distillers.named_parameters()},
        "survey": dict(module.distillers[-1].named_buffers()),
        "averages": {name: value.clone() for name, value in trainer.ema.ema.state_dict().items()},
        "metrics": metrics,
        "steps": module.step,
        "wrapped": module is not trainer.model,
        "checkpoint": trainer.last.exists(),
        "detections": _detect(data_yaml, work.parent),
        "averaged": _average() if ranks.size() > 1 else None,
    }


def _average() -> float:
    """Rank 0 has a loss of 10 after two batches, rank 1 of 20 after one."""
    from edgekd.training.engines.parallel import average_losses

    rank = ranks.rank()
    batches, loss = [None] * (2 - rank), torch.tensor(10.0 * (rank + 1))
    validator = SimpleNamespace(dataloader=batches, loss={"box_loss": loss}, device=torch.device("cpu"))
    average_losses(validator)
    return validator.loss["box_loss"].item() / len(batches)  # as the engine divides it


def _detect(data_yaml: Path, scratch: Path) -> list[Any]:
    """Detections of one detector on 36 images: three batches, which two ranks cannot share evenly."""
    from edgekd.data import config, pack
    from edgekd.recipe.sections import ValidateRecipe
    from edgekd.stages.accuracy import detect_in_torch
    from tests.stages import tiny

    def images() -> pack.Pack:
        data = config.YoloData(format="yolo", path=str(data_yaml))
        split = config.load(data, scratch / f"data{ranks.rank()}", data_yaml.parent).splits["test"]
        return pack.build(split, (64, 64), 3, scratch / "packs")

    detector, settings = tiny.detector("yolo11n"), ValidateRecipe()
    found = detect_in_torch(
        detector, "one2many", pack=ranks.on_main(images), columns=None, settings=settings, title="validate"
    )
    return [(part.boxes_px, part.scores, part.class_ids) for part in found]


class _Batches:
    """Stands in for the engine's endless sampler of batches."""

    def __init__(self, batches: list[list[int]]) -> None:
        self.sampler = batches

    def __iter__(self) -> Any:
        while True:
            yield from self.sampler


def main(data_yaml: Path, out: Path, rank: int, size: int, port: int) -> None:
    ranks.join(ranks.World(rank, size, 0, 1), "localhost", port, hosted=False, timeout_s=60)
    torch.set_num_threads(1)
    work = out.parent / "work"
    if not ranks.is_main():
        work = out.parent / f"work{rank}"  # so that what this rank writes shows
    torch.save(train(data_yaml, work), out)
    ranks.leave(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *(int(part) for part in sys.argv[3:]))
