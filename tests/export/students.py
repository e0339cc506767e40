"""Small real students with random weights whose scores and boxes depend on the image, and real photographs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.export.contract import Source, TargetSpec
from edgekd.export.targets import load_target
from edgekd.types import ByteArray

CLASS_NAMES = ("bolt", "nut", "washer")
ROOT = Path(__file__).parents[2]
_GAIN = 0.9  # keeps activations where they are nearly linear: a random deep network is chaotic otherwise


@cache
def photographs(count: int, height_px: int, width_px: int) -> ByteArray:
    """(count, H, W, 3) uint8 crops of natural photographs."""
    from skimage import data, transform

    images = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    random = np.random.default_rng(0)
    crops = []
    for index in range(count):
        image = images[index % len(images)]
        top, left = random.integers(0, image.shape[0] // 3), random.integers(0, image.shape[1] // 3)
        crop = image[top : top + image.shape[0] // 2, left : left + image.shape[1] // 2]
        crops.append(transform.resize(crop, (height_px, width_px), anti_aliasing=True) * 255)
    return np.stack(crops).astype(np.uint8)


@cache
def student(name: str) -> Any:
    """An Ultralytics detector; its batch norms are set to the photographs, or its features would fade to constants."""
    import torch

    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector

    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        detector = UltralyticsDetector.opened(Asked(name, None, CLASS_NAMES, 3, "student"))
        _set_batch_norms(detector)
        _spread_predictions(detector)
    return detector


def source(name: str, head: str | None = None, size_px: tuple[int, int] = (64, 96)) -> Source:
    """A student, ready for `run_steps`."""
    detector = student(name)
    module = detector.export_module(head).eval()
    return Source(module, module.decode, CLASS_NAMES, 3, size_px, detector.spec.size_multiple, sha256="5eed" * 16)


def target(name: str, /, **overrides: Any) -> TargetSpec:
    """A built-in target with other keys."""
    return load_target(str(ROOT / "export" / f"{name}.yaml"), overrides, "recipe.yaml: export[0]")


def _set_batch_norms(detector: Any) -> None:
    import torch
    from torch import nn

    images = torch.from_numpy(photographs(4, 256, 256)).permute(0, 3, 1, 2).float() / 255
    norms = [layer for layer in detector.module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    detector.module.eval()
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    detector.module(images)
    detector.module.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.weight.mul_(_GAIN)


def _spread_predictions(detector: Any) -> None:
    from torch import nn

    head = detector.head
    if detector.is_query:
        for layer in (head.enc_bbox_head, *head.dec_bbox_head):
            nn.init.normal_(layer.layers[-1].weight, 0, 0.05)
        last = [*head.dec_score_head, head.enc_score_head]
    else:
        branches = [getattr(head, branch)["cls_head"] for branch in detector.spec.branches]
        last = [tower[-1] for towers in branches for tower in towers]
    for layer in last:
        layer.weight.mul_(3)
        nn.init.normal_(layer.bias, -1.5, 0.5)
