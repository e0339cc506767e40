"""HEAD's assistant: a region head on the student's pyramid, trained with the labels and dropped at export.

HEAD: HEtero-Assists Distillation for Heterogeneous Object Detectors, Wang et al., ECCV 2022, arXiv 2207.05345.
Code: github.com/LutingWang/HEAD.

    x_i: RoIAlign 7 x 7 of psi(F_S) at region i, psi: 1x1 convolution;   h = two layers of 1024 with ReLU
    L_class = mean over regions of the cross-entropy of softmax(W_c h) with the label, or background
    L_box = 1 / M * sum over objects' regions and 4 deltas of |W_b h - delta| ;   deltas in units of 0.1, 0.1, 0.2, 0.2

**Reduction**: L_class a mean over the M sampled regions of the batch, L_box a sum over the objects' ones, divided by M.

This is the first of the method's three parts, "assist": the labels teach the pyramid by a second way, no teacher takes
part, and the paper gains 1.7 of its 4.4 AP by it alone. The other two imitate the region head of a two-stage teacher
on the student's regions; a teacher is asked about its own regions alone, so `imitation: true` is refused.

Differs from the official code: the head begins at random, there as a copy of the teacher's; a convolution per level
brings the student's widths to one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.parts import Proposals
from edgekd.detectors.regions import Regions, overlaps
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import find_taps, fp32_island
from edgekd.distill.config import Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.region.shared import CutConfig
from edgekd.distill.regions import Cut, ground_truth
from edgekd.errors import InputError

_UNITS = (0.1, 0.1, 0.2, 0.2)  # of deltas x, y, log w, log h
_OVERLAP = 0.5  # from which on a region is of an object
_PROPOSALS = Proposals(limit=1000, nms_iou=0.7)  # of the student


class HeadAssistantConfig(CutConfig):
    """Keys of `head_assistant`."""

    weight: Weight = Field(1.0, description="factor on both terms")
    regions: int = Field(512, ge=4, le=2000, description="sampled per image, at most")
    objects: float = Field(0.25, gt=0, le=1, description="share of them that may be of objects")
    width: int = Field(1024, ge=8, le=4096, description="of the head's two layers")
    imitation: bool = Field(False, description="learn from a two-stage teacher's region head; refused as yet")


@fp32_island
def assistant_loss(
    logits: Tensor, deltas: Tensor, labels: Tensor, boxes_px: Tensor, targets_px: Tensor
) -> tuple[Tensor, Tensor]:
    """Class and box loss of M regions.

    Args:
        logits: (M, K + 1), background last.
        deltas: (M, K, 4).
        labels: (M,) int64, K at the background.
        boxes_px, targets_px: (M, 4), the regions and the objects that they are of.
    """
    count = max(len(labels), 1)
    objects = (labels < deltas.shape[1]).nonzero().flatten()
    found = deltas[objects, labels[objects]]
    wanted = deltas_of(boxes_px[objects], targets_px[objects])
    classes = F.cross_entropy(logits, labels, reduction="sum") / count
    return classes, (found - wanted).abs().sum() / count


def deltas_of(boxes_px: Tensor, targets_px: Tensor) -> Tensor:
    """(M, 4) from boxes to targets, as in Faster R-CNN: shift of centres in sizes, logarithm of the ratio of sizes."""
    sizes, wanted = (side[:, 2:] - side[:, :2] for side in (boxes_px, targets_px))
    shift = (targets_px[:, :2] + wanted / 2 - boxes_px[:, :2] - sizes / 2) / sizes
    return torch.cat([shift, (wanted / sizes).log()], 1) / boxes_px.new_tensor(_UNITS)


@register("head_assistant")
class HeadAssistant(Distiller):
    """Lets a second head of another kind learn the labels from the student's pyramid."""

    config_type = HeadAssistantConfig
    card = Card(
        about="a second head on the student's pyramid, taught by the labels alone",
        title="HEAD: HEtero-Assists Distillation for Heterogeneous Object Detectors",
        venue="ECCV 2022",
        level="region",
        arxiv="2207.05345",
        code="github.com/LutingWang/HEAD",
        gain="RetinaNet R18 on COCO 31.7 to 33.4 AP by the assistant alone; the whole method reaches 36.1",
        weight_at="1333x800 px, as a region head's own loss; does not depend on the size",
    )
    config: HeadAssistantConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        config = self.config
        if config.imitation:
            raise InputError(
                f"head_assistant: imitation needs a region head that is run on the student's regions; teacher "
                f"{pair.teacher.name} has {_head(pair)}; set imitation: false"
            )
        self.taps = find_taps("student", pair.student, config.taps, self.name)
        width = max(tap.channels for tap in self.taps)
        strides = tuple(tap.stride for tap in self.taps)
        self.cut = Cut(strides, (width,) * len(self.taps), config.size, config.canonical_px)
        self.classes = len(pair.student.class_names)
        self.adapters = nn.ModuleList(nn.Conv2d(tap.channels, width, 1) for tap in self.taps)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(width * config.size**2, config.width), nn.ReLU(),
            nn.Linear(config.width, config.width), nn.ReLU(),
        )  # fmt: skip
        self.classify = nn.Linear(config.width, self.classes + 1)
        self.locate = nn.Linear(config.width, 4 * self.classes)
        return Wiring(Needs(self.taps, frozenset({_PROPOSALS})))

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`class` and `box`."""
        regions, labels, targets = self._sampled(student, batch, moment.generator)
        maps = [adapter(student.taps[tap.key]) for tap, adapter in zip(self.taps, self.adapters, strict=True)]
        hidden = self.layers(self.cut.of(maps, regions))
        deltas = self.locate(hidden).reshape(-1, self.classes, 4)
        classes, boxes = assistant_loss(self.classify(hidden), deltas, labels, regions.rows_px, targets)
        return {"class": classes, "box": boxes}

    @torch.no_grad()
    def _sampled(
        self, student: DetectorOutput, batch: Batch, generator: torch.Generator
    ) -> tuple[Regions, Tensor, Tensor]:
        """Regions from labels and the student's boxes, the class (M,) and the object (M, 4) of each."""
        proposals, _ = student.proposals(_PROPOSALS, batch.images)
        truth, classes = ground_truth(batch)
        regions = truth.also(proposals)
        valid = regions.valid & batch.view.labelled[:, None]  # elsewhere what has no label need not be background
        labels = torch.full(regions.valid.shape, self.classes, device=classes.device)
        targets = regions.boxes_px.clone()
        if truth.valid.shape[1]:
            best = overlaps(regions, truth).max(-1)  # (B, R)
            is_object = best.values >= _OVERLAP
            labels = torch.where(is_object, classes.gather(1, best.indices), labels)
            targets = truth.boxes_px.gather(1, best.indices[..., None].expand(-1, -1, 4))
        chosen = self._chosen(valid, labels < self.classes, generator)
        return Regions(regions.boxes_px, chosen), labels[chosen], targets[chosen]

    def _chosen(self, valid: Tensor, is_object: Tensor, generator: torch.Generator) -> Tensor:
        """(B, R) bool: objects up to their share, background up to the rest, at random."""
        chance = torch.rand(valid.shape, generator=generator, device=valid.device)
        objects = _first(valid & is_object, chance, int(self.config.objects * self.config.regions))
        left = self.config.regions - objects.sum(1, keepdim=True)
        return objects | _first(valid & ~is_object, chance, left)


def _head(pair: Pair) -> str:
    kind = pair.teacher.head.kind
    return "one for regions of its own alone" if kind == "region" else f"a {kind} head"


def _first(candidates: Tensor, chance: Tensor, count: Tensor | int) -> Tensor:
    """(B, R) bool: of each image's candidates, so many of the least chance."""
    order = chance.masked_fill(~candidates, 2.0).argsort(1).argsort(1)
    return candidates & (order < count)
