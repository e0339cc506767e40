"""A family that is none of the engine's: a network of six convolutions with a loss of its own, trained in moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.detectors import described
from edgekd.detectors.capture import captured
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.outputs import Assignment, Batch, DensePredictions, DetectorOutput, Guidance, TrainingPass
from edgekd.detectors.spec import Branch, DenseHead, Needs, Part, Spec, Tap
from edgekd.detectors.style import TrainingStyle
from edgekd.errors import InputError, unknown

STRIDES, WIDTH = (8, 16), 8
_ROLES: tuple[tuple[str, Part], ...] = (("head_cls", "class_logits"), ("head_box", "boxes"))


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())


class ToyNetwork(nn.Module):
    """Maps of strides 8 and 16, and a tower for classes and one for boxes at each."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(channels, WIDTH, 4), block(WIDTH, WIDTH, 2))
        self.deeper = block(WIDTH, 2 * WIDTH, 2)
        widths = (WIDTH, 2 * WIDTH)
        self.head_cls = nn.ModuleList(nn.Sequential(block(w, w, 1), nn.Conv2d(w, classes, 1)) for w in widths)
        self.head_box = nn.ModuleList(nn.Sequential(block(w, w, 1), nn.Conv2d(w, 4, 1)) for w in widths)

    def features(self, images: Tensor) -> list[Tensor]:
        finer = self.stem(images)
        return [finer, self.deeper(finer)]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return flat(self.head_cls, features), flat(self.head_box, features)


def flat(towers: Any, features: list[Tensor]) -> Tensor:
    """(B, A, outputs)"""
    return torch.cat([t(f).flatten(2) for t, f in zip(towers, features, strict=True)], 2).transpose(1, 2)


def grid(sizes: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    points, strides = [], []
    for (height, width), stride in zip(sizes, STRIDES, strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((height * width,), float(stride)))
    return torch.cat(points).to(device), torch.cat(strides).to(device)


def decode(raw: Tensor | None, points: Tensor, strides: Tensor) -> Tensor:
    if raw is None:
        raise RuntimeError("boxes were not computed: add 'boxes' to the method's needs")
    sides = F.softplus(raw) * strides[:, None]
    return torch.cat([points - sides[..., :2], points + sides[..., 2:]], -1)


class ToyPredictor(nn.Module):
    decode = "dense"

    def __init__(self, network: ToyNetwork) -> None:
        super().__init__()
        self.network = deepcopy(network).float().cpu().eval().requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(images)
        points, strides = grid([tuple(f.shape[2:]) for f in features], images.device)  # type: ignore[misc]
        logits, raw = flat(self.network.head_cls, features), flat(self.network.head_box, features)
        return decode(raw, points, strides), logits.sigmoid()


class ToyDetector:
    def __init__(self, module: nn.Module, spec: Spec) -> None:
        assert isinstance(module, ToyNetwork)
        self.module, self.spec = module, spec

    @classmethod
    def made(cls, class_names: Sequence[str], channels: int) -> ToyDetector:
        module = ToyNetwork(len(class_names), channels).eval()
        widths = (WIDTH, 2 * WIDTH)
        taps = [Tap("neck", path, s, w) for path, s, w in zip(("stem", "deeper"), STRIDES, widths, strict=True)]
        taps += [Tap("backbone", "stem.0", 4, WIDTH)]
        for role, part in _ROLES:
            taps += [
                Tap(role, f"{role}.{level}.0", STRIDES[level], w, part=part)  # type: ignore[arg-type]
                for level, w in enumerate(widths)
            ]
        count = sum(value.numel() for value in module.parameters())
        head = DenseHead(STRIDES)
        return cls(module, Spec("toy", "toy-s", tuple(class_names), channels, 16, tuple(taps), head, count))

    def with_taps(self, paths: Sequence[str]) -> ToyDetector:
        known = {tap.path for tap in self.spec.taps}
        modules = dict(self.module.named_modules())
        fresh = [path for path in dict.fromkeys(paths) if path in modules and path not in known]
        shapes: dict[str, tuple[int, ...]] = {}
        with captured(self.module.eval(), [Tap("named", path, 1, 1) for path in fresh]) as maps:
            self.module(torch.zeros(1, self.spec.input_channels, 64, 64))
            shapes = {path: tuple(value.shape) for path, value in maps.items()}
        named = tuple(
            Tap("named", path, 64 // shape[2], shape[1], part=self._part(path))
            for path, shape in shapes.items()
            if len(shape) == 4
        )
        return ToyDetector(self.module, replace(self.spec, taps=self.spec.taps + named))

    @staticmethod
    def _part(path: str) -> Part | None:
        return next((part for role, part in _ROLES if path.startswith(role)), None)

    def with_module(self, module: nn.Module) -> ToyDetector:
        return ToyDetector(module, self.spec)

    def frozen(self) -> ToyDetector:
        return self.with_module(deepcopy(self.module).eval().requires_grad_(False))

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        features = self.module.features(images)
        towers = {"class_logits": self.module.head_cls, "boxes": self.module.head_box}
        return {part: flat(tower, features) for part, tower in towers.items() if part in parts}

    def assemble(self, heads: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        if not heads:
            return DetectorOutput(dict(taps))
        sizes = tuple((-(-images.shape[2] // s), -(-images.shape[3] // s)) for s in STRIDES)
        points, strides = grid(sizes, images.device)
        found = DensePredictions(
            points, strides, sizes, partial(decode, heads.get("boxes"), points, strides), heads.get("class_logits")
        )
        return DetectorOutput(dict(taps), {"one2many": found})

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        tower: Any = (self.module.head_box if part == "boxes" else self.module.head_cls)[level]
        if not 0 <= cut < len(tower):
            raise InputError(f"toy-s: head_tail: cut {cut} of a tower of {len(tower)} layers; choose 0 or 1")
        tail: nn.Module = tower[cut:]
        return tail

    def export_module(self, head: Branch | None = None) -> nn.Module:
        return ToyPredictor(self.module)

    def rebuilt(self, class_names: Sequence[str], with_weights: bool) -> ToyDetector:
        made = ToyDetector.made(class_names, self.spec.input_channels).with_taps(self.spec.named_paths)
        if with_weights:
            own = made.module.state_dict()
            fitting = {k: v for k, v in self.module.state_dict().items() if v.shape == own[k].shape}
            made.module.load_state_dict(fitting, strict=False)
        return made

    def training_pass(self, batch: Batch, needs: Needs, guidance: Guidance) -> TrainingPass:
        with captured(self.module, needs.taps) as maps:
            heads = self.compute(batch.images, frozenset({"class_logits", "boxes"}))
        output = self.assemble(heads, maps, batch.images)
        dense = output.dense["one2many"]
        dense.decode = partial(decode, heads["boxes"].float(), dense.points_px, dense.point_strides)
        scores, _ = guidance.assign_by.get("one2many", (dense.class_logits.sigmoid(), None))
        decided = assigned(scores.detach(), dense.points_px, batch)
        if "assignment" in needs.parts:
            dense.assigned = decided
        positive, count = decided.foreground, decided.foreground.sum().clamp_min(1)
        logits, targets = dense.class_logits.float(), decided.class_targets
        each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        classes = each[batch.view.labelled].sum()
        strides = dense.point_strides.expand(positive.shape)[positive][:, None]
        apart = (dense.boxes_px[positive] - batch.boxes_px[decided.box_index[positive]]) / strides
        parts = {"cls": classes / count, "box": apart.abs().sum() / count}
        items = {f"{name}_loss": value.detach() for name, value in parts.items()}
        anchors = {**maps, **{f"head.{name}": value for name, value in heads.items()}}
        return TrainingPass(torch.stack(list(parts.values())), items, output, anchors)

    def loss_scale(self, batch_size: int) -> float:
        return 1.0

    def layers(self) -> tuple[nn.Module, ...]:
        return (self.module.stem, self.module.deeper)

    def sections(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("stem.",), "neck": ("deeper.",), "head": ("head_cls.", "head_box.")}

    def quantisable(self, float_predictions: bool = False) -> dict[str, nn.Conv2d]:
        return {
            path: part
            for path, part in self.module.named_modules()
            if isinstance(part, nn.Conv2d) and not (float_predictions and part.bias is not None)
        }

    def save(self, folder: Path, arguments: Mapping[str, Any], size_px: int) -> None:
        described.write(self.module, folder / "student.safetensors", self._header(), half=False)

    def publish(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Nothing but the weights."""

    def _header(self) -> dict[str, Any]:
        return {"toy": True, "names": list(self.spec.class_names), "channels": self.spec.input_channels}


def assigned(scores: Tensor, points: Tensor, batch: Batch) -> Assignment:
    """Of the points inside a box, the four with the best scores of its class are positive; the last box takes them."""
    size, (count, classes) = batch.size, (len(points), scores.shape[-1])
    foreground = torch.zeros(size, count, dtype=torch.bool, device=points.device)
    index = torch.full((size, count), -1, dtype=torch.int64, device=points.device)
    targets = torch.zeros(size, count, classes, device=points.device)
    for row, (image, kind, box) in enumerate(zip(batch.image_index, batch.class_ids, batch.boxes_px, strict=True)):
        if not batch.view.labelled[image]:
            continue
        inside = ((points >= box[:2]) & (points <= box[2:])).all(-1).nonzero()[:, 0]
        chosen = inside[scores[image, inside, kind].argsort(descending=True)[:4]]
        foreground[image, chosen], index[image, chosen] = True, row
        targets[image, chosen] = 0
        targets[image, chosen, kind] = 1
    return Assignment(foreground, index, targets)


class ToyFamily:
    name = "toy"
    student_files = ("student.safetensors",)
    train_defaults: Mapping[str, Any] = {"optimizer": "AdamW", "lr0": 0.004}
    style = TrainingStyle(schedule=lambda epoch, epochs, last: 1.0 if epoch < epochs / 2 else last, ema_decay=0.9)
    packages: tuple[str, ...] = ()

    def missing(self) -> str | None:
        return None

    def models(self) -> list[str]:
        return ["toy-s"]

    def accepts(self, model: str | None, weights_path: Path | None) -> bool:
        if model is not None:
            return model == "toy-s"
        return weights_path is not None and "toy" in (described.header_of(weights_path) or {})

    def open(self, asked: Asked) -> ToyDetector:
        if asked.weights is not None:
            header, weights = described.read(asked.weights)
            opened = ToyDetector.made(header["names"], header["channels"])
            opened.module.load_state_dict(weights)
            return opened
        if asked.model != "toy-s":
            raise InputError(f"{asked.where}.model: {unknown('model', str(asked.model), self.models())}")
        return ToyDetector.made(asked.class_names or ("thing",), asked.channels)

    def differing(self, model: str, detector: Detector, where: str) -> list[str]:
        return []
