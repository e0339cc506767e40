"""A loss put together from parts: one kind of knowledge, transformed on both sides, and a distance.

DetKDS: Knowledge Distillation Search for Object Detectors, Li et al., ICML 2024. Code: github.com/lliai/DetKDS.

    maps:   L = sum over levels of mean of D(T3(T2(T1(phi(F_S)))), T3(T2(T1(F_T))))
            T1 attention, T2 scale, T3 normalisation (transforms.py), D a distance at each position (distances.py)
    global: all positions;   fgbg: objects + 1/2 background, weighted by FGD's masks;   instance: RoIAlign of each box
    logits, localisation: D(T(p_S), T(p_T)) at the shared points (responses.py)

The total of DetKDS is one entry per kind of knowledge. `edgekd search` looks for them.

**Reduction**: mean over channels, mean over positions weighted by what they count; sum over levels; mean over the
student's branches. Points count the teacher's confidence, and sum to 1 at least.

Differs from the paper, which its code and itself contradict: `norm_*` standardise, as the paper's equation 6 (with two
images a batch, `norm_n` is +-1 whatever they are, and has no gradient), `unit_*` divide by the length, as the code does
that its results are of; `min_max` is per image; `mask` hides the same positions on both sides, which then count for
nothing; patches are samples, as in the paper; cosine and Pearson distances are 1 less the similarity, KL has logarithms
on both sides, IoUs are those of their own papers; masks of fgbg weigh the distance, there they multiply the maps;
instances are cut out before they are transformed, as in the paper; all points count alike there; the distances of a box
to its edges are what is transformed: the paper names none, and that part of its code is not released.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs, Part
from edgekd.distill.adapters import Levels
from edgekd.distill.box_masks import background_mask, has_labels, scale_mask
from edgekd.distill.boxes import BoxLoss
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.heads import Heads, Known, Side
from edgekd.distill.regions import Cut, ground_truth
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points, unmet
from edgekd.distill.searched.distances import map_distance
from edgekd.distill.searched.options import SearchedConfig
from edgekd.distill.searched.responses import box_distance, logit_distance
from edgekd.distill.searched.transforms import alike
from edgekd.errors import InputError

FACTORS = {"background": 0.5}  # as FGD's
_PARTS: dict[str, frozenset[Part]] = {
    "logits": frozenset({"class_logits"}), "localisation": frozenset({"boxes"}),
}  # fmt: skip


@register("searched")
class Searched(Distiller):
    """Teaches one kind of knowledge by a loss that is put together from parts."""

    config_type = SearchedConfig
    card = Card(
        about="one kind of knowledge, by a loss put together from parts",
        title="DetKDS: Knowledge Distillation Search for Object Detectors",
        venue="ICML 2024",
        level="feature",
        code="github.com/lliai/DetKDS",
        gain="GFL R101 to R50 on COCO 40.2 to 43.7 AP by one global term, RetinaNet X101 to R50 37.4 to 41.1 by five "
        "(both with the teacher's neck and head inherited)",
        weight_at="1333x800 px, five levels; means, so the value does not depend on the size",
    )
    decided_by = frozenset()
    config: SearchedConfig
    levels: Levels
    heads: Heads

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        kind = self.config.knowledge
        if kind not in _PARTS:
            self.levels = Levels.of(pair, self.config, self.name, "conv1x1", only_if_needed=True)
            if kind == "instance":
                taps = [level.teacher for level in self.levels.pairs]
                strides, widths = tuple(tap.stride for tap in taps), tuple(tap.channels for tap in taps)
                self.cut = Cut(strides, widths, self.config.size)
            return self.levels.wiring()
        if reasons := unmet((dense_heads, shared_points, shared_classes), pair):
            raise InputError(*(f"searched: knowledge {kind} {reason}" for reason in reasons))
        self.heads = Heads(pair)
        return Wiring(Needs(parts=_PARTS[kind]), Needs(parts=_PARTS[kind] | {"class_logits"}))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """The teacher's maps; or per branch `confidence:` (B, A), and `logits:` (B, A, K) or `boxes_px:` (B, A, 4)."""
        kind = self.config.knowledge
        if kind not in _PARTS:
            return super().knowledge(teacher, batch)
        part: Known = "logits" if kind == "logits" else "boxes_px"
        return self.heads.knowledge(teacher, "confidence", part)

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """Named as the kind of knowledge; of fgbg `foreground` and `background`."""
        if self.config.knowledge in _PARTS:
            return self.heads.mean(self._of_heads, student, knowledge)
        found: dict[str, list[Tensor]] = {}
        for level, (ours, theirs) in enumerate(self.levels.maps(student, knowledge)):
            for name, (own, other, weight) in self._inputs(level, ours, theirs, batch).items():
                value = map_distance(own, other, weight, self.config.parts, moment.generator)
                found.setdefault(name, []).append(value * FACTORS.get(name, 1.0))
        return {name: torch.stack(values).sum() for name, values in found.items()}

    def _inputs(self, level: int, ours: Tensor, theirs: Tensor, batch: Batch) -> dict[str, tuple[Tensor, ...]]:
        """What is compared of a level by the name of its term: two maps (N, C, H, W) and weights (N, H, W)."""
        if self.config.knowledge == "global":
            return {"global": (ours, theirs, alike(theirs))}
        if self.config.knowledge == "instance":
            regions = ground_truth(batch)[0]
            cut = [self.cut.of_level(side, level, regions) for side in (ours, theirs)]
            return {"instance": (*cut, alike(cut[1]))}
        foreground = scale_mask(batch, (theirs.shape[2], theirs.shape[3]))
        background = background_mask(foreground) * has_labels(batch)
        return {"foreground": (ours, theirs, foreground), "background": (ours, theirs, background)}

    def _of_heads(self, side: Side) -> dict[str, Tensor]:
        config, weight = self.config, side.theirs("confidence")
        transform, distance = config.parts["transform"], config.parts["distance"]
        if config.knowledge == "logits":
            ours, theirs = side.ours("logits"), side.theirs("logits")
            return {"logits": logit_distance(ours, theirs, weight, side.known, transform, distance)}
        kind = cast("BoxLoss", distance)
        ours, theirs = side.ours("boxes_px"), side.theirs("boxes_px")
        found = box_distance(ours, theirs, side.points_px, side.strides, weight, transform, kind)
        return {"localisation": found}
