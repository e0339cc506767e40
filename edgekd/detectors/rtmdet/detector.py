"""RTMDet as teacher and as student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd import ranks
from edgekd.detectors.capture import captured
from edgekd.detectors.outputs import Batch, DensePredictions, DetectorOutput, Guidance, TrainingPass
from edgekd.detectors.rtmdet import checkpoint
from edgekd.detectors.rtmdet.checkpoint import transfer
from edgekd.detectors.rtmdet.decode import boxes_px, grid
from edgekd.detectors.rtmdet.description import describe, named_taps
from edgekd.detectors.rtmdet.export import DenseExport
from edgekd.detectors.rtmdet.fusion import fused_copy
from edgekd.detectors.rtmdet.head import Exponential
from edgekd.detectors.rtmdet.losses import detection_loss
from edgekd.detectors.rtmdet.network import RTMDet
from edgekd.detectors.rtmdet.scales import STRIDES
from edgekd.detectors.spec import Branch, Needs, Part, Spec
from edgekd.errors import InputError

_WHOLE: frozenset[Part] = frozenset({"class_logits", "boxes"})


class RTMDetDetector:
    """A detector whose network is an `RTMDet` (`module`, and `network` by its own type)."""

    def __init__(self, module: RTMDet, name: str, spec: Spec | None = None) -> None:
        """`spec`: of a network whose description is known."""
        self.module: nn.Module = module
        self.network = module
        self.spec = spec or describe(module, name)

    def with_taps(self, paths: Sequence[str]) -> RTMDetDetector:
        """See `Detector.with_taps`."""
        known = {tap.path for tap in self.spec.taps}
        taps = named_taps(self.network, [path for path in dict.fromkeys(paths) if path not in known])
        if not taps:
            return self
        return RTMDetDetector(self.network, self.spec.name, replace(self.spec, taps=self.spec.taps + taps))

    def with_module(self, module: nn.Module) -> RTMDetDetector:
        """See `Detector.with_module`."""
        assert isinstance(module, RTMDet)
        return RTMDetDetector(module, self.spec.name, self.spec)

    def frozen(self) -> RTMDetDetector:
        """A copy for use as a teacher: eval mode, no gradients, convolution and batch norm folded into one."""
        return self.with_module(fused_copy(self.network, keep=self.spec.named_paths).requires_grad_(False))

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """See `Detector.compute`: `scores` (B, K, A), `boxes` (B, 4, A) as distances in strides."""
        features, head = self.network.features(images), self.network.bbox_head
        outputs: dict[str, Tensor] = {}
        if "class_logits" in parts:
            outputs["scores"] = head.class_logits(features)
        if "boxes" in parts:
            outputs["boxes"] = head.distances(features)
        return outputs

    def assemble(self, heads: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """See `Detector.assemble`."""
        if not heads:
            return DetectorOutput(dict(taps))
        height, width = images.shape[-2:]
        sizes = tuple((-(-height // stride), -(-width // stride)) for stride in STRIDES)
        points, strides = grid(sizes, STRIDES, images.device)
        scores = heads.get("scores")
        predictions = DensePredictions(
            points_px=points,
            point_strides=strides,
            level_sizes=sizes,
            decode=partial(_decode, heads.get("boxes"), points, strides),
            logits=None if scores is None else scores.transpose(1, 2),
        )
        return DetectorOutput(dict(taps), {"one2many": predictions})

    def training_pass(self, batch: Batch, needs: Needs, guidance: Guidance) -> TrainingPass:
        """See `Trainable.training_pass`."""
        with captured(self.module, needs.taps) as maps:
            heads = self.compute(batch.images, _WHOLE)
        output = self.assemble(heads, maps, batch.images)
        dense = output.dense["one2many"]
        with torch.autocast(batch.images.device.type, enabled=False):  # of a validation ranks have unequal shares
            dense.decode = partial(_decode, heads["boxes"].float(), dense.points_px, dense.point_strides)
            found = detection_loss(
                dense.class_logits, dense.boxes_px, dense.points_px, dense.point_strides, batch,
                guidance.assign_by.get("one2many"), together=self.module.training,
            )  # fmt: skip
        if "assignment" in needs.parts:
            dense.assigned = found.assignment
        items = {"box_loss": found.boxes.detach(), "cls_loss": found.classes.detach()}
        anchors = {**maps, **{f"head.{name}": value for name, value in heads.items()}}
        loss = torch.stack([found.boxes, found.classes]) * self.loss_scale(batch.size)
        return TrainingPass(loss, items, output, anchors)

    def rebuilt(self, class_names: Sequence[str], with_weights: bool) -> RTMDetDetector:
        """See `Trainable.rebuilt`: what scores a class goes with its name."""
        module = RTMDet(self.network.scale, tuple(class_names), self.network.channels)
        if with_weights:
            transfer(self.network, module)
        return RTMDetDetector(module, self.spec.name).with_taps(self.spec.named_paths)

    def layers(self) -> tuple[nn.Module, ...]:
        """See `Trainable.layers`: stages, the neck's blocks, and the head's convolutions at each level."""
        backbone, neck, head = self.network.backbone, self.network.neck, self.network.bbox_head
        stages = (backbone.stem, backbone.stage1, backbone.stage2, backbone.stage3, backbone.stage4)
        towers = [
            layer for towers in (head.cls_convs, head.reg_convs) for tower in towers for layer in tower.children()
        ]
        return (*stages, *neck.top_down_blocks, *neck.bottom_up_blocks, *neck.out_convs, *towers)

    def sections(self) -> dict[str, tuple[str, ...]]:
        """See `Trainable.sections`."""
        return {"backbone": ("backbone.",), "neck": ("neck.",), "head": ("bbox_head.",)}

    def quantisable(self, float_predictions: bool = False) -> dict[str, nn.Conv2d]:
        """See `Trainable.quantisable`. What levels share counts once: one range for its inputs at all levels."""
        last = ("bbox_head.rtm_cls.", "bbox_head.rtm_reg.") if float_predictions else ()
        return {
            path: part
            for path, part in self.network.named_modules()
            if isinstance(part, nn.Conv2d) and not path.startswith(last)
        }

    def save(self, folder: Path, arguments: Mapping[str, Any], size_px: int) -> None:
        """See `Trainable.save`."""
        checkpoint.save(self.network, self.spec.name, folder, {"training": dict(arguments), "size_px": size_px})

    def publish(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """See `Trainable.publish`."""
        checkpoint.publish(self.network, self.spec.name, folder, facts)

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """See `Detector.head_tail`."""
        where = f"{self.spec.name}: head_tail"
        if branch not in self.spec.branches:
            raise InputError(f"{where}: has no branch {branch}; it has {', '.join(self.spec.branches)}")
        layers = self.network.bbox_head.layers(str(part), level)
        if not 0 <= cut < len(layers):
            raise InputError(f"{where}: cut {cut} of a tower of {len(layers)} layers; choose 0 to {len(layers) - 1}")
        ending = [Exponential()] if part == "boxes" and self.network.bbox_head.exponential else []
        return nn.Sequential(*layers[cut:], *ending)

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """A plain module, fp32, on the CPU, in eval mode; see `Detector.export_module`."""
        return DenseExport(self.network)

    def loss_scale(self, batch_size: int) -> float:
        """The losses are means over the positives of all ranks; ranks' gradients are added up by the engine."""
        return 1.0 / ranks.size()


def _decode(distances: Tensor | None, points: Tensor, strides: Tensor) -> Tensor:
    if distances is None:
        raise RuntimeError("boxes were not computed: add 'boxes' to the method's needs")
    return boxes_px(distances, points, strides)
