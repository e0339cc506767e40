"""What every feature method shares: pairing of levels, resizing, channel adapters, normalisation, fp32 islands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Literal, ParamSpec, TypeVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import Needs, Part, Role, Spec, Tap
from edgekd.distill.config import FeatureConfig, StandardisedConfig, Taps
from edgekd.distill.contract import Pair, Wiring
from edgekd.errors import InputError, unknown

AdapterKind = Literal["none", "conv1x1", "conv1x1_norm", "conv3x3", "mlp", "own"]

ROLES: tuple[str, ...] = get_args(Role)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class LevelPair:
    """A student level and the teacher level that it learns from."""

    student: Tap
    teacher: Tap


def match_levels(
    student: Spec, teacher: Spec, student_taps: Taps, teacher_taps: Taps | None, method: str, *, resize: bool = False
) -> tuple[LevelPair, ...]:
    """Pair levels by stride; the n-th student tap of a stride with the n-th teacher tap of that stride.

    Levels of a role that have no partner of equal stride are left out, or, with `resize`, paired with the teacher level
    of the nearest stride (the finer one of two equally near). A tap that is named by its module path is never left out.

    Args:
        student_taps, teacher_taps: a role (`neck`) or module paths; the teacher's default to the student's.
        method: name for messages.
        resize: whether the method may resize the student's map.

    Raises:
        InputError: an unknown tap, a named tap without partner, or no pair at all; names both sides.
    """
    teacher_taps = student_taps if teacher_taps is None else teacher_taps
    ours = find_taps("student", student, student_taps, method)
    theirs = find_taps("teacher", teacher, teacher_taps, method)
    free = list(theirs)
    pairs = []
    for tap in ours:
        partner = next((other for other in free if other.stride == tap.stride), None)
        if partner is not None:
            free.remove(partner)
        elif resize:
            partner = min(theirs, key=lambda other: _stride_distance(tap, other))
        if partner is not None:
            pairs.append(LevelPair(tap, partner))
    sides = (
        f"{_strides('student', student, student_taps, ours)}; {_strides('teacher', teacher, teacher_taps, theirs)}; "
        "name taps by module path (taps, teacher_taps)"
    )
    if not pairs:
        raise InputError(f"{method}: no level of equal stride: {sides}")
    unpaired = set(named_paths(student_taps)) - {pair.student.path for pair in pairs}
    unpaired |= set(named_paths(teacher_taps)) - {pair.teacher.path for pair in pairs}
    if unpaired:
        raise InputError(f"{method}: no level of equal stride for tap {', '.join(sorted(unpaired))}: {sides}")
    return tuple(pairs)


def find_taps(side: str, spec: Spec, taps: Taps, method: str) -> tuple[Tap, ...]:
    """Taps of the roles and paths in `taps`, by stride.

    Args:
        side, method: `student` or `teacher`, and who asks, for messages.

    Raises:
        InputError: an unknown tap, or none.
    """
    by_path: dict[str, list[Tap]] = {}  # a module that runs once per level has several
    for tap in spec.taps:
        by_path.setdefault(tap.path, []).append(tap)
    roles = {tap.role for tap in spec.taps}
    problems = [
        f"{method}: {side} {spec.name}: {unknown('tap', name, [*roles, *by_path])}"
        for name in _listed(taps)
        if name not in by_path and name not in roles
    ]
    if problems or not taps:
        raise InputError(*(problems or [f"{method}: {side} {spec.name}: no taps given; name a role such as neck"]))
    found = [tap for name in _listed(taps) for tap in by_path.get(name) or spec.taps_of(name)]
    return tuple(sorted(found, key=lambda tap: tap.stride))


def match_branches(student: Spec, teacher: Spec) -> tuple[tuple[str, str], ...]:
    """Per branch of a dense student, the teacher's branch that it learns from: the same one, else the one there is."""
    return tuple((branch, branch if branch in teacher.branches else teacher.branches[0]) for branch in student.branches)


def named_paths(taps: Taps | None) -> tuple[str, ...]:
    """Module paths among `taps` (not roles): a detector adds these to its spec before `build`."""
    return tuple(path for path in _listed(taps or ()) if path not in ROLES)


class Levels(nn.Module):
    """Paired levels with one adapter each: what a feature method holds instead of having a base class."""

    def __init__(
        self,
        pairs: tuple[LevelPair, ...],
        adapter: AdapterKind,
        *,
        only_if_needed: bool = False,
        standardised: StandardisedConfig | None = None,
    ) -> None:
        super().__init__()
        self.pairs = pairs
        self.standardised = standardised
        widths = [(pair.student.channels, pair.teacher.channels) for pair in pairs]
        self.adapters = nn.ModuleList(
            channel_adapter(ours, theirs, "none" if only_if_needed and ours == theirs else adapter)
            for ours, theirs in widths
        )

    @classmethod
    def of(
        cls,
        pair: Pair,
        config: FeatureConfig,
        method: str,
        adapter: AdapterKind,
        *,
        only_if_needed: bool = False,
        resize: bool = True,
        standardised: StandardisedConfig | None = None,
    ) -> Levels:
        """Pair the taps that a method's config names.

        Args:
            method: name for messages.
            adapter: kind on each level.
            only_if_needed: no adapter on levels whose channel counts are equal.
            resize: whether maps of unequal strides may be compared.
            standardised: keys that say whether both sides are standardised after the adapter.

        Raises:
            InputError: see `match_levels` and `channel_adapter`.
        """
        student, teacher = pair.student, pair.teacher
        pairs = match_levels(student, teacher, config.taps, config.teacher_taps, method, resize=resize)
        try:
            return cls(pairs, adapter, only_if_needed=only_if_needed, standardised=standardised)
        except InputError as error:
            raise InputError(f"{method}: student {student.name}, teacher {teacher.name}: {error}") from error

    def wiring(self, *teacher_parts: Part) -> Wiring:
        """The taps of both sides, and parts of the teacher's head that a method reads beside them."""
        return Wiring(
            Needs(tuple(dict.fromkeys(pair.student for pair in self.pairs))),
            Needs(tuple(dict.fromkeys(pair.teacher for pair in self.pairs)), frozenset(teacher_parts)),
        )

    def maps(self, student: DetectorOutput, knowledge: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Per pair: the adapted student map and the teacher's, both (N, C_teacher, H_teacher, W_teacher)."""
        for pair, adapter in zip(self.pairs, self.adapters, strict=True):
            target = knowledge[pair.teacher.key]
            ours = adapter(resize_to(student.taps[pair.student.key], target))
            if self.standardised is not None and self.standardised.normalise == "channel":
                per_image = target.shape[0] < self.standardised.per_image_below
                ours, target = (standardise(feature, per_image=per_image) for feature in (ours, target))
            yield ours, target

    def total(
        self, loss: Callable[[Tensor, Tensor], Tensor], student: DetectorOutput, knowledge: Mapping[str, Tensor]
    ) -> Tensor:
        """Sum over levels of `loss(student map, teacher map)`."""
        return torch.stack([loss(ours, theirs) for ours, theirs in self.maps(student, knowledge)]).sum()


def channel_adapter(in_channels: int, out_channels: int, kind: AdapterKind) -> nn.Module:
    """Map (N, in, H, W) to (N, out, H, W). Weights and biases have PyTorch's default (Kaiming-uniform) initialisation.

    Kinds: `none` (equal channels only), `conv1x1` (with bias), `conv1x1_norm` (no bias: for losses that do not see the
    mean of a channel, where a bias would never get a gradient), `conv3x3` (with bias; nine times the work), `mlp`
    (conv1x1, ReLU, conv1x1), `own` (the map as it is, for methods that adapt it themselves).

    Raises:
        InputError: `none` with different channel counts.
    """
    if kind == "none":
        if in_channels != out_channels:
            raise InputError(
                f"adapter 'none' needs equal channels, given {in_channels} and {out_channels}; choose 'conv1x1'"
            )
        return nn.Identity()
    if kind == "own":
        return nn.Identity()
    if kind == "mlp":
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1), nn.ReLU(inplace=True), nn.Conv2d(out_channels, out_channels, 1)
        )
    if kind == "conv3x3":
        return nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return nn.Conv2d(in_channels, out_channels, 1, bias=kind == "conv1x1")


def start_near_zero(adapters: nn.ModuleList, deviation: float = 1e-4) -> None:
    """Initialise convolutions so that hardly any gradient reaches the student until they have learnt something.

    As FGFI and DeFeat do: weights normal with `deviation`, cut at two deviations.
    """
    for adapter in adapters:
        assert isinstance(adapter, nn.Conv2d)
        nn.init.trunc_normal_(adapter.weight, std=deviation, a=-2 * deviation, b=2 * deviation)


def resize_to(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """The student's (N, C, H, W) map at the teacher's H and W, bilinear with align_corners=False; no copy if equal."""
    size = teacher_map.shape[-2:]
    if student_map.shape[-2:] == size:
        return student_map
    return F.interpolate(student_map, size=size, mode="bilinear", align_corners=False)


def fp32_island(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a loss function: autocast is off inside and half-precision tensor arguments become float32."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            wide = {key: _widened(value) for key, value in kwargs.items()}
            return function(*(_widened(value) for value in args), **wide)  # type: ignore[arg-type]

    return run


@fp32_island
def standardise(feature: Tensor, *, per_image: bool = False, eps: float = 1e-5) -> Tensor:
    """Zero mean and unit (biased) variance per channel over batch and positions: a BatchNorm without parameters.

    Statistics are of this batch only, nothing is remembered.

    Args:
        feature: (N, C, H, W).
        per_image: over the positions of each image instead, for batches too small for good statistics.
        eps: added to the variance.
    """
    shape = feature.shape
    if per_image:
        feature = feature.reshape(1, -1, *shape[2:])
    if feature.numel() == feature.shape[1]:  # one value per channel is its own mean
        return (feature * 0).reshape(shape)
    return F.batch_norm(feature, None, None, training=True, eps=eps).reshape(shape)


def _widened(value: object) -> object:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if isinstance(value, Tensor) and half else value


def _listed(taps: Taps) -> tuple[str, ...]:
    return (taps,) if isinstance(taps, str) else taps


def _stride_distance(tap: Tap, other: Tap) -> tuple[float, int]:
    return max(tap.stride, other.stride) / min(tap.stride, other.stride), other.stride


def _strides(side: str, spec: Spec, taps: Taps, found: tuple[Tap, ...]) -> str:
    strides = ", ".join(str(tap.stride) for tap in found)
    return f"{side} {spec.name} {', '.join(_listed(taps))} has strides {strides}"
