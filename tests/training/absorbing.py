"""A method with a preparation: a module learns of the teacher which classes an image shows, then judges the student."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring
from edgekd.distill.preparation import Preparation

CLASSES = 10


class AbsorbingConfig(DistillerConfig):
    epochs: int = 3


class Absorbing(Distiller):
    config_type = AbsorbingConfig
    card = Card(about="what a judge of the teacher's maps sees", title="None", venue="none", level="neck")
    prepares = True
    config: AbsorbingConfig

    def build(self, pair: Pair) -> Wiring:
        self.ours, self.theirs = (spec.taps_of("neck")[0] for spec in (pair.student, pair.teacher))
        self.judge = pair.prepared(nn.Conv2d(self.theirs.channels, CLASSES, 1))
        self.adapter = nn.Conv2d(self.ours.channels, self.theirs.channels, 1)
        return Wiring(Needs((self.ours,)), Needs((self.theirs,)))

    def preparation(self) -> Preparation:
        train = {"epochs": self.config.epochs, "lr0": 0.05, "warmup_epochs": 0.0, "nbs": 8}
        return Preparation(self.judge.trainable, self.absorb, train, depends_on=("epochs",))

    def absorb(self, knowledge: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        shown = torch.zeros(batch.size, CLASSES)
        shown[batch.image_index, batch.class_ids] = 1
        keep = torch.rand(shown.shape, generator=generator) < 0.9
        found = self.judge.trainable(knowledge[self.theirs.key]).amax((2, 3))
        return {"class": F.binary_cross_entropy_with_logits(found, shown, keep.float())}

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        own, theirs = self.judge(self.adapter(student.taps[self.ours.key])), self.judge(knowledge[self.theirs.key])
        return {"judged": (own - theirs).square().mean()}
