"""The Ultralytics family: YOLOv8, YOLO11, YOLO12, YOLO26 (dense heads, one or two branches) and RT-DETR (queries)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.contract import Asked
from edgekd.detectors.outputs import Batch, DensePredictions, DetectorOutput, Guidance, TrainingPass
from edgekd.detectors.spec import Branch, DenseHead, Needs, Part, Spec, Tap
from edgekd.detectors.ultralytics import queries, weights
from edgekd.detectors.ultralytics.architectures import architecture
from edgekd.detectors.ultralytics.description import describe, head_part, probe
from edgekd.detectors.ultralytics.fusion import fused_copy
from edgekd.detectors.ultralytics.heads import DenseExport, QueryExport
from edgekd.detectors.ultralytics.training_pass import query_pass, training_pass
from edgekd.errors import InputError


class UltralyticsDetector:
    """A detector whose network is an Ultralytics `DetectionModel` or `RTDETRDetectionModel` (`module`)."""

    def __init__(self, module: Any, name: str, spec: Spec | None = None) -> None:
        """`spec`: of a network whose description is known; None: found out by running it."""
        self.module = module
        self.head = module.model[-1]
        self.is_query = type(self.head).__name__ == "RTDETRDecoder"
        if not self.is_query and type(self.head).__name__ != "Detect":
            raise InputError(f"{name}: its head is {type(self.head).__name__}; edgekd serves detection heads only")
        self.spec = spec or describe(module, name, self.is_query)

    @classmethod
    def opened(cls, asked: Asked) -> UltralyticsDetector:
        """From a checkpoint, or with random weights from a model name or YAML.

        Raises:
            InputError: nothing given, unreadable, or of another family.
        """
        model, where = asked.model, asked.where
        if asked.weights is not None:
            module = weights.load(asked.weights, f"{where}.weights")
            return cls._running(module, model or asked.weights.stem, f"{where}.weights: {asked.weights}")
        if model is None:
            raise InputError(f"{where}: give 'model' (a name such as yolo26n) or 'weights' (a file)")
        config = architecture(model, f"{where}.model")
        try:
            module = weights.build(config, len(asked.class_names) or 80, asked.channels)
        except Exception as error:  # a layer that there is not, channels that do not fit: it breaks anywhere
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{where}.model: {model} cannot be built ({reason}); correct the model YAML") from error
        if asked.class_names:
            module.names = dict(enumerate(asked.class_names))
        return cls._running(module, Path(model).stem, f"{where}.model: {model}")

    @classmethod
    def _running(cls, module: Any, name: str, where: str) -> UltralyticsDetector:
        """A detector that was run once. What a file says of its layers breaks anywhere: their order, strides, shapes.

        Raises:
            InputError: it does not run, or gives what is no number.
        """
        try:
            return cls(module, name)
        except InputError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{where} holds no detector that runs ({reason}); use another") from error

    def with_taps(self, paths: Sequence[str]) -> UltralyticsDetector:
        """See `Detector.with_taps`."""
        known = {tap.path for tap in self.spec.taps}
        modules = dict(self.module.named_modules())
        fresh = [path for path in dict.fromkeys(paths) if path in modules and path not in known]
        if not fresh:
            return self
        size, shapes = probe(self.module, self.spec.input_channels, fresh)
        taps = tuple(
            Tap("named", path, size // shape[2], shape[1], part=head_part(self.module, path))
            for path, shape in shapes.items()
            if len(shape) == 4
        )
        return UltralyticsDetector(self.module, self.spec.name, replace(self.spec, taps=self.spec.taps + taps))

    def with_module(self, module: nn.Module) -> UltralyticsDetector:
        """See `Detector.with_module`."""
        return UltralyticsDetector(module, self.spec.name, self.spec)

    def frozen(self) -> UltralyticsDetector:
        """A copy for use as a teacher: eval mode, no gradients, convolution and batch norm folded into one."""
        module = fused_copy(self.module, keep=self.spec.named_paths).requires_grad_(False)
        return self.with_module(module)

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """See `Detector.compute`. Named as in `one2many scores` (B, K, A), `one2many boxes` (B, 4 * bins, A)."""
        features = self._trunk(images)
        if self.is_query:
            return queries.compute(self.head, features, parts) if parts else {}
        return self._dense_heads(features, parts)

    def assemble(self, heads: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """See `Detector.assemble`."""
        if self.is_query:
            found = queries.predictions(self.head, heads, images) if heads else None
            return DetectorOutput(dict(taps), {}, found)
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in heads.items():
            branch, part = name.split()
            parts.setdefault(branch, {})[part] = value
        height, width = images.shape[-2:]
        sizes = tuple((-(-height // stride), -(-width // stride)) for stride in self._strides)
        dense = {name: self._dense(part, sizes, images.device) for name, part in parts.items()}
        return DetectorOutput(dict(taps), dense)

    def rebuilt(self, class_names: Sequence[str], with_weights: bool) -> UltralyticsDetector:
        """See `Trainable.rebuilt`: as the engine builds what it trains, which takes classes over by name."""
        module = weights.build(self.module.yaml, len(class_names), self.spec.input_channels)
        module.names = dict(enumerate(class_names))
        if with_weights:
            module.load(self.module, verbose=False)
        if len(class_names) != len(self.spec.class_names):  # towers may be of another width
            return UltralyticsDetector(module, self.spec.name).with_taps(self.spec.named_paths)
        return UltralyticsDetector(module, self.spec.name, replace(self.spec, class_names=tuple(class_names)))

    def training_pass(self, batch: Batch, needs: Needs, guidance: Guidance) -> TrainingPass:
        """See `Trainable.training_pass`: the loss is the engine's own."""
        if self.is_query:
            return query_pass(self.module, batch, needs)
        return training_pass(self.module, self.read, batch, needs, guidance)

    def read(self, raw: Any, taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """What a dense head returned in training, in the common form."""
        branches = raw if "one2many" in raw else {"one2many": raw}
        sizes = tuple((int(map_.shape[2]), int(map_.shape[3])) for map_ in next(iter(branches.values()))["feats"])
        dense = {name: self._dense(part, sizes, images.device) for name, part in branches.items()}
        return DetectorOutput(dict(taps), dense)

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """See `Detector.head_tail`."""
        where = f"{self.spec.name}: head_tail"
        if not isinstance(self.spec.head, DenseHead):
            raise InputError(f"{where}: needs a dense head, this one is a {self.spec.head.kind} head")
        tower = getattr(self.head, branch)["box_head" if part == "boxes" else "cls_head"][level]
        if not 0 <= cut < len(tower):
            raise InputError(f"{where}: cut {cut} of a tower of {len(tower)} layers; choose 0 to {len(tower) - 1}")
        tail: nn.Module = tower[cut:]
        return tail

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """A plain module, fp32, on the CPU, in eval mode; see `Detector.export_module`."""
        return QueryExport(self.module) if self.is_query else DenseExport(self.module, head or self.spec.branches[0])

    def loss_scale(self, batch_size: int) -> float:
        """The v8 losses are means times the batch size, RT-DETR's are not."""
        return 1.0 if self.is_query else float(batch_size)

    def layers(self) -> tuple[nn.Module, ...]:
        """See `Trainable.layers`: those that the model YAML lists, the head among them."""
        return tuple(self.module.model)

    def sections(self) -> dict[str, tuple[str, ...]]:
        """See `Trainable.sections`: the model YAML lists the backbone's layers first, and the head last."""
        begins = [f"model.{index}." for index in range(len(self.module.model))]
        end = len(self.module.yaml["backbone"])
        return {"backbone": tuple(begins[:end]), "neck": tuple(begins[end:-1]), "head": (begins[-1],)}

    def quantisable(self, float_predictions: bool = False) -> dict[str, nn.Conv2d]:
        """See `Trainable.quantisable`: all but the constant sum over a box distribution's bins."""
        head = {id(part) for part in self.head.modules()} if float_predictions else set()
        return {
            path: part
            for path, part in self.module.named_modules()
            if isinstance(part, nn.Conv2d)
            and ".dfl." not in f".{path}."
            and not (id(part) in head and part.bias is not None)  # without a batch norm behind it
        }

    def save(self, folder: Path, arguments: Mapping[str, Any], size_px: int) -> None:
        """See `Trainable.save`: a checkpoint that opens in Ultralytics."""
        weights.save_checkpoint(self.module, folder / weights.CHECKPOINT, arguments, size_px)

    def publish(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """See `Trainable.publish`: the weights in a form that cannot run code."""
        weights.save_safetensors(self.module, folder / weights.TWIN, dict(facts))

    def _trunk(self, images: Tensor) -> list[Tensor]:
        """Everything before the head, in the order of the engine's own graph."""
        kept: list[Any] = []
        value: Any = images
        for layer in self.module.model[:-1]:
            if layer.f != -1:
                sources = [layer.f] if isinstance(layer.f, int) else layer.f
                inputs = [value if source == -1 else kept[source] for source in sources]
                value = inputs[0] if isinstance(layer.f, int) else inputs
            value = layer(value)
            kept.append(value if layer.i in self.module.save else None)
        return [kept[source] if source != -1 else value for source in self.head.f]

    @property
    def _strides(self) -> list[int]:
        return [int(stride) for stride in self.head.stride]

    def _dense_heads(self, features: list[Tensor], parts: frozenset[Part]) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        for name in self.spec.branches:
            towers = getattr(self.head, name)
            if "class_logits" in parts:
                outputs[f"{name} scores"] = _run_towers(towers["cls_head"], features)
            if "boxes" in parts:
                outputs[f"{name} boxes"] = _run_towers(towers["box_head"], features)
        return outputs

    def _dense(
        self, parts: Mapping[str, Any], sizes: tuple[tuple[int, int], ...], device: torch.device
    ) -> DensePredictions:
        points, point_strides = _grid(sizes, self._strides, device)
        boxes = parts.get("boxes")
        bins = self.head.reg_max
        box_logits = None
        if boxes is not None and bins > 1:
            box_logits = boxes.unflatten(1, (4, bins)).permute(0, 3, 1, 2)
        scores = parts.get("scores")
        return DensePredictions(
            points_px=points,
            point_strides=point_strides,
            level_sizes=sizes,
            decode=partial(_decode_boxes, boxes, points, point_strides, bins),
            logits=None if scores is None else scores.transpose(1, 2),
            box_logits=box_logits,
        )


def _run_towers(towers: Any, features: list[Tensor]) -> Tensor:
    return torch.cat([tower(feature).flatten(2) for tower, feature in zip(towers, features, strict=True)], dim=2)


def _grid(sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Cell centres (A, 2) and strides (A,) of all levels."""
    points, point_strides = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
        points.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        point_strides.append(torch.full((height * width,), float(stride), device=device))
    return torch.cat(points), torch.cat(point_strides)


def _decode_boxes(boxes: Tensor | None, points_px: Tensor, strides: Tensor, bins: int) -> Tensor:
    """Distances (B, 4 * bins, A) in strides to boxes (B, A, 4) in px."""
    if boxes is None:
        raise RuntimeError("boxes were not computed: add 'boxes' to the method's needs")
    distances = boxes.transpose(1, 2)
    if bins > 1:
        projection = torch.arange(bins, dtype=boxes.dtype, device=boxes.device)
        distances = distances.reshape(*distances.shape[:2], 4, bins).softmax(-1) @ projection
    distances = distances * strides[:, None]
    return torch.cat([points_px - distances[..., :2], points_px + distances[..., 2:]], -1)
