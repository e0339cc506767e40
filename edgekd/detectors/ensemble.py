"""Several detectors as one teacher: their predictions are averaged, point by point.

    p = sum over t of w_t p_t,   b = sum over t of w_t b_t,   the same for box distributions

`mean`: w_t = 1 / T. `confidence`: w_t = c_t / (sum over t of c_t) at each point, where c_t is the best score of a class
that the member knows: whoever sees an object there decides. Scores are averaged as probabilities. A class is averaged
over the members that know it. Feature maps are not averaged: those of two networks have nothing in common. A method on
maps is listed once for each teacher.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Detector
from edgekd.detectors.outputs import DensePredictions, DetectorOutput
from edgekd.detectors.spec import Branch, DenseHead, Part, Spec
from edgekd.errors import InputError

Weighting = Literal["mean", "confidence"]
FAMILY = "ensemble"
_EPS = 1e-6  # of a probability, in float32


@dataclass(frozen=True)
class Member:
    """One of them.

    Attributes:
        classes: from its classes to the data set's.
    """

    detector: Detector
    classes: ClassMap


class Ensemble:
    """A `Detector` whose predictions are the average of its members', with the classes of the data set.

    Attributes:
        members, by: see the module.
        module: the members' networks, as one.
    """

    def __init__(
        self, members: Sequence[Member], by: Weighting, class_names: tuple[str, ...], where: str = "ensemble"
    ) -> None:
        """Combine detectors.

        Args:
            class_names: of the data.
            where: key of the recipe, for messages.

        Raises:
            InputError: their heads do not predict at the same points.
        """
        self.members, self.by = tuple(members), by
        self.spec = _spec([member.detector.spec for member in members], class_names, where)
        self.module: nn.Module = nn.ModuleList(member.detector.module for member in members)

    def with_taps(self, paths: Sequence[str]) -> Ensemble:
        """It has none."""
        return self

    def with_module(self, module: nn.Module) -> Ensemble:
        """The same ensemble of other networks, as `module` holds them."""
        assert isinstance(module, nn.ModuleList)
        pairs = zip(self.members, module, strict=True)
        return self._of([replace(member, detector=member.detector.with_module(own)) for member, own in pairs])

    def frozen(self) -> Ensemble:
        """See `Detector.frozen`."""
        return self._of([replace(member, detector=member.detector.frozen()) for member in self.members])

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """Of each member; confidence needs the scores whatever is asked for."""
        parts = parts | {"class_logits"} if parts and self.by == "confidence" else parts
        return {
            f"{index} {name}": value
            for index, member in enumerate(self.members)
            for name, value in member.detector.compute(images, parts).items()
        }

    def assemble(self, heads: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """See `Detector.assemble`."""
        if not heads:
            return DetectorOutput({})
        outputs = [self._of_member(index, heads, images) for index in range(len(self.members))]
        dense: dict[str, DensePredictions] = {
            branch: combined([output.dense[branch] for output in outputs], self.by) for branch in self.spec.branches
        }
        return DetectorOutput({}, dense)

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """It has no layers of its own.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.spec.name}: an ensemble has no head of its own; name one teacher")

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """See `Detector.export_module`; scores in the order of the data's classes."""
        return _Averaged(self.members, self.by, head or self.spec.branches[0])

    def _of(self, members: Sequence[Member]) -> Ensemble:
        return Ensemble(members, self.by, self.spec.class_names)

    def _of_member(self, index: int, heads: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        own = {name.removeprefix(f"{index} "): value for name, value in heads.items() if name.startswith(f"{index} ")}
        member = self.members[index]
        output = member.detector.assemble(own, {}, images)
        has_scores = all(one.logits is not None for one in output.dense.values())
        return member.classes.apply(output) if has_scores else output


def combined(members: Sequence[DensePredictions], by: Weighting) -> DensePredictions:
    """One branch of all members, at the same points, with the same classes; see the module.

    Members with class logits (B, A, K), box logits (B, A, 4, bins) or none give such logits of the averages.
    """
    first = members[0]
    known = _known(members)
    has_scores = first.logits is not None
    scores = torch.stack([one.class_logits.float().sigmoid() for one in members]) if has_scores else None
    weights = _weights(scores, known, by)
    logits = None if scores is None else _mean_scores(scores, known, weights).logit(_EPS)
    box_logits = None
    if all(one.box_logits is not None for one in members):
        shares = torch.stack([one.box_logits.float().softmax(-1) for one in members if one.box_logits is not None])
        box_logits = (weights[..., None, None] * shares).sum(0).clamp_min(_EPS).log()

    def decode() -> Tensor:
        return (weights[..., None] * torch.stack([one.boxes_px.float() for one in members])).sum(0)

    anyone = known.any(0)
    return replace(
        first, decode=decode, logits=logits, box_logits=box_logits, known_classes=None if bool(anyone.all()) else anyone
    )


def _known(members: Sequence[DensePredictions]) -> Tensor:
    """(T, K) bool; (T, 1) where nothing was computed of classes."""
    logits = members[0].logits
    count, device = (1, members[0].points_px.device) if logits is None else (logits.shape[-1], logits.device)
    everything = torch.ones(count, dtype=torch.bool, device=device)
    return torch.stack([everything if one.known_classes is None else one.known_classes for one in members])


def _weights(scores: Tensor | None, known: Tensor, by: Weighting) -> Tensor:
    """(T, B, A), or (T, 1, 1) where all count alike; `scores` (T, B, A, K), `known` (T, K)."""
    if by == "mean":
        return torch.full((len(known), 1, 1), 1 / len(known), device=known.device)
    assert scores is not None, "confidence asks for scores"
    confidence = scores.masked_fill(~known[:, None, None, :], 0).amax(-1).clamp_min(_EPS)
    return confidence / confidence.sum(0)


def _mean_scores(scores: Tensor, known: Tensor, weights: Tensor) -> Tensor:
    """(B, A, K), each class over the members that know it."""
    own = weights[..., None] * known[:, None, None, :]
    return (own * scores).sum(0) / own.sum(0).clamp_min(_EPS)


class _Averaged(nn.Module):
    """Images to averaged boxes (B, N, 4) and scores (B, N, K)."""

    decode = "dense"

    def __init__(self, members: Sequence[Member], by: Weighting, head: Branch) -> None:
        super().__init__()
        self.parts = nn.ModuleList(member.detector.export_module(head) for member in members)
        self.by, self.maps = by, [member.classes for member in members]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = [part(images) for part in self.parts]
        boxes = torch.stack([one[0] for one in found])
        known = torch.stack([mapped.known for mapped in self.maps]).to(boxes.device)
        scores = torch.stack([one[1][..., mapped.index] for one, mapped in zip(found, self.maps, strict=True)])
        weights = _weights(scores, known, self.by)
        return (weights[..., None] * boxes).sum(0), _mean_scores(scores, known, weights)


def _spec(specs: Sequence[Spec], class_names: tuple[str, ...], where: str) -> Spec:
    """Of all together.

    Raises:
        InputError: one line per member that does not fit the first.
    """
    first = specs[0]
    problems = [
        f"{where}: {one.name} has {_points(one)}, {first.name} has {_points(first)}; an ensemble needs dense heads with"
        " the same points and sigmoid scores: leave one out"
        for one in specs
        if _points(one) != _points(first) or not isinstance(one.head, DenseHead)
    ]
    branches = tuple(branch for branch in first.branches if all(branch in one.branches for one in specs))
    if problems or not isinstance(first.head, DenseHead) or not branches:
        raise InputError(*(problems or [f"{where}: its members have no branch of the head in common"]))
    bins = first.head.bins if all(one.head.bins == first.head.bins for one in specs) else 1
    return Spec(
        family=FAMILY,
        name="+".join(one.name for one in specs),
        class_names=class_names or first.class_names,
        input_channels=first.input_channels,
        size_multiple=math.lcm(*(one.size_multiple for one in specs)),
        taps=(),
        head=replace(first.head, branches=branches, bins=bins),
        parameters=sum(one.parameters for one in specs),
    )


def _points(spec: Spec) -> str:
    head = spec.head
    return f"{head.points}, {head.activation}" if isinstance(head, DenseHead) else f"a {head.kind} head"
