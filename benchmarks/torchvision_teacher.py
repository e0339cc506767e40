"""Trains a small detector of torchvision on `digits`, by torchvision's own losses: the teacher of digits-faster-rcnn.

    python benchmarks/torchvision_teacher.py --out runs/digits-faster-rcnn-teacher

edgekd trains none of torchvision, so this is a plain loop: AdamW, a cosine after a linear warm-up of one epoch, images
as they are. Writes `teacher.pth`, `teacher.json` beside it with the names of the classes, and prints one JSON object
with the AP on val.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from paired import environment, say, use_cores


def main() -> None:
    """Train, write, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="fasterrcnn-p", choices=("fasterrcnn-p", "retinanet-p", "fcos-p"))
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--val", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    use_cores(options.threads, False)
    import torch

    from edgekd.data.digits import CLASS_NAMES

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        splits = digits(options, Path(scratch))
        network = trained(splits["train"], options)
        options.out.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), options.out / "teacher.pth")
        (options.out / "teacher.json").write_text(json.dumps({"classes": list(CLASS_NAMES)}), encoding="utf-8")
        seconds = time.monotonic() - began
        ap = measured(options, splits["val"], Path(scratch))
    found = {"ap": round(ap, 4), "seconds": round(seconds)}
    print(
        json.dumps({"options": {**vars(options), "out": str(options.out)}, **found, **environment("torch")}, indent=1)
    )


def digits(options: argparse.Namespace, scratch: Path) -> Any:
    """The splits."""
    from edgekd.data.config import DigitsData, load

    asked = DigitsData(format="digits", imgsz=96, train=options.images, val=options.val, test=1, seed=0)
    return load(asked, scratch / "data", scratch).splits


def trained(split: Any, options: argparse.Namespace) -> Any:
    """A network after all epochs, in eval mode."""
    import torch

    from edgekd.data.digits import CLASS_NAMES
    from edgekd.detectors.torchvision.build import build

    torch.manual_seed(options.seed)
    network: Any = build(options.model, len(CLASS_NAMES) + 1).train()
    network.transform.min_size, network.transform.max_size = (96,), 96  # not torchvision's 800
    if hasattr(network, "roi_heads"):  # 64 regions for at most 8 objects; torchvision's 512 are most of a step
        network.roi_heads.fg_bg_sampler.batch_size_per_image = 64
    images, targets = tensors(split)
    steps = len(images) // options.batch
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.lr, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / steps, (1 + math.cos(math.pi * step / (options.epochs * steps))) / 2),
    )
    for epoch in range(options.epochs):
        total = 0.0
        for chosen in torch.randperm(len(images))[: steps * options.batch].reshape(steps, -1).tolist():
            losses = network([images[place] for place in chosen], [targets[place] for place in chosen])
            optimiser.zero_grad()
            loss = torch.stack(list(losses.values())).sum()
            loss.backward()
            total += loss.item()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimiser.step()
            rate.step()
        say(f"epoch {epoch + 1}/{options.epochs}: loss {total / steps:.3f}")
    return network.eval()


def tensors(split: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """Images (3, 96, 96) in 0..1, and what torchvision wants to know of each; class 0 is its background."""
    import torch

    from edgekd.data.letterbox import load_image

    pixels = [load_image(Path(split.image_dir) / truth.file_name, 3) for truth in split.images]
    images = [torch.from_numpy(one).permute(2, 0, 1).float() / 255 for one in pixels]
    targets = [
        {"boxes": torch.from_numpy(truth.boxes_px).float(), "labels": torch.from_numpy(truth.class_ids) + 1}
        for truth in split.images
    ]
    return images, targets


def measured(options: argparse.Namespace, split: Any, scratch: Path) -> float:
    """AP of what was written, as edgekd opens it."""
    from edgekd.data.digits import CLASS_NAMES
    from edgekd.data.pack import build
    from edgekd.detectors import families
    from edgekd.detectors.contract import Asked
    from edgekd.recipe.sections import ValidateRecipe
    from edgekd.stages.accuracy import detect_in_torch, summarise

    detector = families.open_detector(None, Asked(options.model, options.out / "teacher.pth", (), 3, "teacher"))
    pack, settings = build(split, (96, 96), 3, scratch / "packs"), ValidateRecipe()
    head = next(iter(detector.spec.branches), None)
    found = detect_in_torch(detector, head, pack=pack, columns=None, settings=settings, title="validating")
    return float(summarise(split, found, CLASS_NAMES, settings, head)["ap"])


if __name__ == "__main__":
    main()
