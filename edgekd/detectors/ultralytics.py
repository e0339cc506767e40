"""The Ultralytics family: YOLOv8, YOLO11, YOLO12, YOLO26 (dense heads, one or two branches) and RT-DETR (queries)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors import weights
from edgekd.detectors.architectures import architecture
from edgekd.detectors.contract import Branch, DensePredictions, DetectorOutput, QueryPredictions, Role, Spec, Tap
from edgekd.detectors.export_heads import DenseExport, QueryExport
from edgekd.detectors.fusion import fused_copy
from edgekd.errors import InputError

_PROBE_SIZE_PX = 64


class UltralyticsDetector:
    """A detector whose network is an Ultralytics `DetectionModel` or `RTDETRDetectionModel` (`module`)."""

    def __init__(self, module: Any, name: str) -> None:
        self.module = module
        self.head = module.model[-1]
        self.is_query = type(self.head).__name__ == "RTDETRDecoder"
        if not self.is_query and type(self.head).__name__ != "Detect":
            raise InputError(f"{name}: its head is {type(self.head).__name__}; edgekd serves detection heads only")
        self.spec = _spec(module, name, self.is_query)

    @classmethod
    def from_recipe(
        cls,
        model: str | None,
        weights_path: Path | None,
        class_names: tuple[str, ...] | None,
        channels: int,
        where: str,
    ) -> UltralyticsDetector:
        """From a checkpoint, or with random weights from a model name or YAML.

        Raises:
            InputError: nothing given, unreadable, or of another family.
        """
        if weights_path is not None:
            module = weights.load(weights_path, f"{where}.weights")
            return cls(module, model or weights_path.stem)
        if model is None:
            raise InputError(f"{where}: give 'model' (a name such as yolo26n) or 'weights' (a file)")
        names = class_names or ()
        module = weights.build(architecture(model, f"{where}.model"), len(names) or 80, channels)
        if names:
            module.names = dict(enumerate(names))
        return cls(module, Path(model).stem)

    def name_taps(self, paths: Sequence[str]) -> None:
        """Make modules that a recipe names by path known as taps.

        Unknown paths and modules whose output is not (B, C, H, W) are left out: level matching names them.
        """
        known = {tap.path for tap in self.spec.taps}
        modules = dict(self.module.named_modules())
        fresh = [path for path in dict.fromkeys(paths) if path in modules and path not in known]
        size, shapes = _probe(self.module, self.spec.input_channels, fresh)
        maps = {path: shape for path, shape in shapes.items() if len(shape) == 4}
        taps = tuple(Tap("named", path, size // shape[2], shape[1]) for path, shape in maps.items())
        self.spec = replace(self.spec, taps=self.spec.taps + taps)

    def frozen(self) -> UltralyticsDetector:
        """A copy for use as a teacher: eval mode, no gradients, convolution and batch norm folded into one."""
        copy = UltralyticsDetector.__new__(UltralyticsDetector)
        copy.module = fused_copy(self.module, keep=self.spec.named_paths).requires_grad_(False)
        copy.head, copy.is_query, copy.spec = copy.module.model[-1], self.is_query, self.spec
        return copy

    def forward(
        self, images: Tensor, taps: tuple[str, ...] = (), needs: frozenset[str] = frozenset()
    ) -> DetectorOutput:
        """Run the trunk, and only those parts of the head that `needs` names."""
        captured: dict[str, Tensor] = {}
        handles = [capture(self.module, path, captured, copy=path in self.spec.named_paths) for path in taps]
        try:
            features = self._trunk(images)
            dense = {} if self.is_query or not needs else self._dense_heads(features, needs)
            queries = self._queries(self.head(features, None), images) if self.is_query and needs else None
        finally:
            for handle in handles:
                handle.remove()
        return DetectorOutput(captured, dense, queries)

    def read(self, raw: Any, taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """Bring the training output of `module(images)` into the common form."""
        if self.is_query:
            return DetectorOutput(dict(taps), {}, self._queries(raw, images))
        branches = raw if "one2many" in raw else {"one2many": raw}
        return DetectorOutput(dict(taps), {name: self._dense(part, part["feats"]) for name, part in branches.items()})

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """A plain module, fp32, on the CPU, in eval mode; see `Detector.export_module`."""
        return QueryExport(self.module) if self.is_query else DenseExport(self.module, head or self.spec.branches[0])

    def loss_scale(self, batch_size: int) -> float:
        """The v8 losses are means times the batch size, RT-DETR's are not."""
        return 1.0 if self.is_query else float(batch_size)

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

    def _dense_heads(self, features: list[Tensor], needs: frozenset[str]) -> dict[str, DensePredictions]:
        outputs: dict[str, DensePredictions] = {}
        for name in self.spec.branches:
            parts: dict[str, Any] = {"feats": features}
            towers = getattr(self.head, name)
            if "class_logits" in needs:
                parts["scores"] = _run_towers(towers["cls_head"], features)
            if "boxes" in needs:
                parts["boxes"] = _run_towers(towers["box_head"], features)
            outputs[name] = self._dense(parts, features)
        return outputs

    def _dense(self, parts: Mapping[str, Any], features: list[Tensor]) -> DensePredictions:
        strides = [int(stride) for stride in self.head.stride]
        points, point_strides = _grid(features, strides)
        boxes = parts.get("boxes")
        bins = self.head.reg_max
        box_logits = None
        if boxes is not None and bins > 1:
            box_logits = boxes.unflatten(1, (4, bins)).permute(0, 3, 1, 2)
        scores = parts.get("scores")
        return DensePredictions(
            class_logits=scores.transpose(1, 2) if scores is not None else points.new_empty(0),
            box_logits=box_logits,
            points_px=points,
            point_strides=point_strides,
            level_sizes=tuple((int(map_.shape[2]), int(map_.shape[3])) for map_ in features),
            decode=partial(_decode_boxes, boxes, points, point_strides, bins),
        )

    def _queries(self, raw: Any, images: Tensor) -> QueryPredictions:
        """Decoder layers of RT-DETR without denoising queries, boxes in pixels."""
        boxes, scores, _, _, denoising = raw if self.module.training or len(raw) == 5 else raw[1]
        if denoising is not None:
            _, boxes = torch.split(boxes, denoising["dn_num_split"], dim=2)
            _, scores = torch.split(scores, denoising["dn_num_split"], dim=2)
        height, width = images.shape[-2:]
        size = boxes.new_tensor([width, height, width, height])
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        return QueryPredictions(scores, torch.cat([centre - half, centre + half], -1) * size)


def capture(module: nn.Module, path: str, store: dict[str, Tensor], copy: bool = False) -> Any:
    """Keep a submodule's output in `store` at each forward pass; returns the hook's handle.

    Args:
        copy: keep a copy, because what follows inside a block (an in-place activation) may overwrite the output.
    """

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        store[path] = output.clone() if copy else output

    return module.get_submodule(path).register_forward_hook(hook)


def _run_towers(towers: Any, features: list[Tensor]) -> Tensor:
    return torch.cat([tower(feature).flatten(2) for tower, feature in zip(towers, features, strict=True)], dim=2)


def _grid(features: list[Tensor], strides: list[int]) -> tuple[Tensor, Tensor]:
    """Cell centres (A, 2) and strides (A,) of all levels."""
    points, point_strides = [], []
    for feature, stride in zip(features, strides, strict=True):
        height, width = feature.shape[-2:]
        y, x = torch.meshgrid(
            torch.arange(height, device=feature.device), torch.arange(width, device=feature.device), indexing="ij"
        )
        points.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        point_strides.append(torch.full((height * width,), float(stride), device=feature.device))
    return torch.cat(points), torch.cat(point_strides)


def _decode_boxes(boxes: Tensor | None, points_px: Tensor, strides: Tensor, bins: int) -> Tensor:
    """Distances (B, 4 * bins, A) in strides to boxes (B, A, 4) in px."""
    if boxes is None:
        raise RuntimeError("boxes were not computed: add 'boxes' to teacher_needs")
    distances = boxes.transpose(1, 2)
    if bins > 1:
        projection = torch.arange(bins, dtype=boxes.dtype, device=boxes.device)
        distances = distances.reshape(*distances.shape[:2], 4, bins).softmax(-1) @ projection
    distances = distances * strides[:, None]
    return torch.cat([points_px - distances[..., :2], points_px + distances[..., 2:]], -1)


def _spec(module: Any, name: str, is_query: bool) -> Spec:
    head = module.model[-1]
    channels = int(module.yaml.get("channels", 3))
    taps = _discover_taps(module, channels)
    reg_max = 1 if is_query else int(head.reg_max)
    two_branches = not is_query and getattr(head, "one2one_cv2", None) is not None
    return Spec(
        family="ultralytics",
        name=name,
        class_names=tuple(str(module.names[index]) for index in sorted(module.names)),
        input_channels=channels,
        size_multiple=int(module.stride.max()),
        taps=taps,
        head_kind="query" if is_query else "dense",
        box_form="box" if is_query else ("distribution" if reg_max > 1 else "distance"),
        reg_max=reg_max,
        branches=("one2many", "one2one") if two_branches else (() if is_query else ("one2many",)),
        point_offset=0.5,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
    )


def _discover_taps(module: Any, channels: int) -> tuple[Tap, ...]:
    """Run once on zeros and read (stride, channels) of every layer that a role names."""
    head = module.model[-1]
    roles: dict[str, Role] = {f"model.{index}": "neck" for index in head.f}
    backbone = [f"model.{index}" for index in range(len(module.yaml["backbone"]))]
    for level in range(len(getattr(head, "cv2", None) or ())):
        roles[f"model.{head.i}.cv3.{level}.1"] = "head_cls"
        roles[f"model.{head.i}.cv2.{level}.1"] = "head_box"
    size, shapes = _probe(module, channels, [*roles, *backbone])
    taps = [Tap(role, path, size // shapes[path][2], shapes[path][1]) for path, role in roles.items()]
    deepest = {size // shapes[path][2]: path for path in backbone}  # the last layer of each stride wins
    taps += [
        Tap("backbone", path, stride, shapes[path][1])
        for stride, path in deepest.items()
        if stride in {tap.stride for tap in taps}
    ]
    return tuple(sorted(taps, key=lambda tap: (tap.role, tap.stride)))


def _probe(module: Any, channels: int, paths: Sequence[str]) -> tuple[int, dict[str, tuple[int, ...]]]:
    """Side of a square input in px, and the output shape of each module for it."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(path: str) -> Any:
        return lambda _module, _inputs, output: shapes.__setitem__(path, tuple(getattr(output, "shape", ())))

    handles = [module.get_submodule(path).register_forward_hook(note(path)) for path in dict.fromkeys(paths)]
    was_training = module.training
    size = max(_PROBE_SIZE_PX, 2 * int(module.stride.max()))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            device = next(module.parameters()).device
            module.eval()(torch.zeros(1, channels, size, size, device=device))
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    return size, shapes
