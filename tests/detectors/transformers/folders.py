"""Folders as transformers writes them, of tiny networks with rough weights: fresh ones predict next to nothing."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.transformers import library
from edgekd.detectors.transformers.models import MODELS, named

NAMES = ("cat", "dog", "traffic light", "bird")
SMALL = tuple(name for name in MODELS if name.endswith("-p"))
PROCESSORS = {
    "detr": "Detr", "table-transformer": "Detr", "conditional_detr": "ConditionalDetr", "dab-detr": "ConditionalDetr",
    "deformable_detr": "DeformableDetr", "lw_detr": "DeformableDetr", "rf_detr": "RfDetr", "rt_detr": "RTDetr",
    "rt_detr_v2": "RTDetr", "d_fine": "RTDetr", "deimv2": "RTDetr",
}  # fmt: skip


def network(model: str, names: tuple[str, ...] = NAMES, **changed: Any) -> Any:
    """The library's network of a small member."""
    model_type, content = named(model, 3, names, "test")
    return of_config(model_type, {**content, **changed})


def of_config(model_type: str, content: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    made = library.built(library.config_of(model_type, deepcopy(content), "test"), "test")
    with torch.no_grad():
        for part in made.modules():
            if isinstance(part, (nn.BatchNorm2d, nn.LayerNorm)):
                part.weight.fill_(1.0)
        for value in made.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn_like(value))
    return made


def processor_of(model_type: str) -> Any:
    return getattr(library.library(), f"{PROCESSORS[model_type]}ImageProcessor")()


def write(made: Any, folder: Path, **options: Any) -> Path:
    """Model and image processor, as somebody saves them."""
    made.save_pretrained(folder, **options)
    processor_of(made.config.model_type).save_pretrained(folder)
    return folder


def opened(folder: Path, model: str | None = None) -> Detector:
    return families.open_detector(None, Asked(model, folder, (), 3, "teacher"))


def change(path: Path, **values: Any) -> None:
    """Keys of a JSON; None takes one away."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
