"""A method that looks at the data before each epoch, and learns nothing from it: what it found can be compared."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.distill import contract
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Distiller, Moment, Observation, Pair, Survey, Wiring
from edgekd.ranks import rank


class Surveying(Distiller):
    """Keeps, of every image, what both sides saw of it; and how often it looked."""

    config_type = DistillerConfig
    surveys = True

    def build(self, pair: Pair) -> Wiring:
        self.ours, self.theirs = (spec.taps_of("neck")[0] for spec in (pair.student, pair.teacher))
        self.register_buffer("ids", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("means", torch.zeros(0, 3))
        self.register_buffer("drawn", torch.zeros(()))
        self.register_buffer("looks", torch.zeros(()))
        self.register_buffer("own_rank", torch.zeros(()))
        return Wiring(Needs((self.ours,), frozenset({"assignment"})), Needs((self.theirs,)))

    def epoch_began(self, moment: Moment, survey: Survey) -> None:
        torch.rand(7), torch.rand(())  # a careless method: the training may not notice
        seen = [(item.batch.view.image_ids, self._means(item)) for item in survey]
        ids, means = (torch.cat(parts) for parts in zip(*seen, strict=True))
        self.ids, self.means = survey.gathered(ids, ids), survey.gathered(ids, means)
        self.drawn = torch.rand((), generator=moment.generator)
        self.looks = self.looks + 1
        self.own_rank = torch.tensor(float(rank()))

    def _means(self, seen: Observation) -> Tensor:
        boxes = torch.bincount(seen.batch.image_index, minlength=seen.batch.size).float()
        maps = (seen.student.taps[self.ours.key], seen.knowledge[self.theirs.key])
        return torch.stack([boxes, *(value.float().mean((1, 2, 3)) for value in maps)], 1)

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        return {"nothing": student.taps[self.ours.key].float().mean() * 0}

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        """Buffers whose length the data decides."""
        for name in ("ids", "means"):
            setattr(self, name, state[prefix + name].clone())
        super()._load_from_state_dict(state, prefix, *rest)  # type: ignore[arg-type]


def register() -> tuple[tuple[str, DistillerConfig], ...]:
    """Make it known in this process; returns it as a recipe would name it."""
    Surveying.name = "surveying"
    contract._REGISTRY["surveying"] = Surveying
    return (("surveying", DistillerConfig()),)
