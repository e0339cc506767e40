"""What the methods on regions share: their keys, and both sides' features at the same boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.parts import Proposals
from edgekd.detectors.regions import Regions, overlaps
from edgekd.detectors.spec import Needs, Tap
from edgekd.distill.adapters import Levels
from edgekd.distill.config import FeatureConfig
from edgekd.distill.contract import Pair, Wiring
from edgekd.distill.regions import Cut, ground_truth

NMS_IOU = 0.5  # of the teacher's proposals


class CutConfig(FeatureConfig):
    """Keys of methods that cut regions out of the pyramid."""

    size: int = Field(7, ge=1, le=28, description="cells of a region per side")
    canonical_px: float = Field(
        224.0, gt=0, description="side of a box that belongs to stride 16; less where images are small"
    )


class RegionConfig(CutConfig):
    """Keys of methods whose regions may be the teacher's detections, too."""

    max_detections: int = Field(32, ge=1, le=300, description="of the teacher per image, where they are regions")
    min_confidence: float = Field(0.05, ge=0, lt=1, description="of such a detection")

    @property
    def proposals(self) -> Proposals:
        """What is asked of the teacher, where its detections are regions."""
        return Proposals(self.max_detections, NMS_IOU, self.min_confidence)

    @property
    def detections(self) -> Needs:
        """The same as a need."""
        return Needs(parts=frozenset({self.proposals}))


class RegionLevels(nn.Module):
    """Paired levels, and what is cut out of either side at a batch's regions."""

    def __init__(self, pair: Pair, config: RegionConfig, method: str, *, with_detections: bool) -> None:
        """Pair the levels that a method's config names.

        Args:
            with_detections: the teacher's detections are regions beside the ground truth.

        Raises:
            InputError: see `match_levels`.
        """
        super().__init__()
        self.config = config if with_detections else None
        self.levels = Levels.of(pair, config, method, "conv1x1", resize=False)
        self.cut = cut_of([level.teacher for level in self.levels.pairs], config)

    def wiring(self) -> Wiring:
        """The taps of both sides; the teacher's proposals where they become regions."""
        own = self.levels.wiring()
        return own if self.config is None else Wiring(own.student, own.teacher | self.config.detections)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """See `region_knowledge`."""
        maps = [teacher.taps[pair.teacher.key] for pair in self.levels.pairs]
        return region_knowledge(teacher, batch, maps, self.cut, self.config)

    def known(self, knowledge: Mapping[str, Tensor]) -> tuple[Regions, Tensor]:
        """The regions, and the teacher's (M, C, size, size) of the valid ones."""
        regions = Regions(knowledge["boxes"], knowledge["valid"])
        return regions, knowledge["features"][regions.valid]

    def of_student(self, student: DetectorOutput, regions: Regions) -> Tensor:
        """The adapted student's (M, C, size, size) at the same boxes."""
        taps = (student.taps[pair.student.key] for pair in self.levels.pairs)
        return self.cut.of([adapter(tap) for adapter, tap in zip(self.levels.adapters, taps, strict=True)], regions)


def cut_of(taps: Sequence[Tap], config: CutConfig) -> Cut:
    """RoIAlign on these taps."""
    widths = tuple(tap.channels for tap in taps)
    return Cut(tuple(tap.stride for tap in taps), widths, config.size, config.canonical_px)


def region_knowledge(
    teacher: DetectorOutput, batch: Batch, maps: Sequence[Tensor], cut: Cut, config: RegionConfig | None
) -> dict[str, Tensor]:
    """Of R regions an image: `boxes` (B, R, 4), `valid` (B, R), `features` (B, R, C, size, size) from the maps.

    With a config the teacher's further detections follow the ground truth, with `is_object` (B, R), False for them, and
    their `scores` (B, R).
    """
    regions, more = ground_truth(batch)[0], {}
    if config is not None:
        objects = regions.valid
        found, scores = detections(teacher, batch, config.proposals)
        regions = regions.also(found)
        more = {
            "is_object": torch.cat([objects, torch.zeros_like(found.valid)], 1),
            "scores": torch.cat([torch.zeros_like(objects, dtype=scores.dtype), scores], 1),
        }
    features = regions.spread(cut.of(maps, regions))
    return {"boxes": regions.boxes_px, "valid": regions.valid, "features": features, **more}


def detections(teacher: DetectorOutput, batch: Batch, asked: Proposals) -> tuple[Regions, Tensor]:
    """The teacher's proposals that no ground truth explains (IoU below 0.5), and their scores (B, R)."""
    found, scores = teacher.proposals(asked, batch.images)
    truth, _ = ground_truth(batch)
    if truth.valid.shape[1]:
        explained = overlaps(found, truth).amax(-1) >= NMS_IOU
        found = Regions(found.boxes_px, found.valid & ~explained)
    return found, scores
