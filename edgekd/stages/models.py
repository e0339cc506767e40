"""Builds a recipe's teacher and student, checks that every method can serve the pair, and describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from torch import Tensor

from edgekd.detectors import families
from edgekd.detectors.class_map import columns_of
from edgekd.detectors.class_matching import ClassMatch
from edgekd.detectors.contract import Asked, Detector, Trainable
from edgekd.detectors.inheriting import inherited
from edgekd.detectors.spec import Branch, DetectionsHead, Spec
from edgekd.distill.adapters import find_taps, named_paths
from edgekd.distill.config import EMA, MAIN, DistillerConfig, FeatureConfig
from edgekd.distill.contract import Pair, distiller_type
from edgekd.distill.frozen import no_parts
from edgekd.distill.requirements import unmet
from edgekd.errors import EdgekdError, InputError, unknown
from edgekd.export import foresee
from edgekd.export.targets import check_size
from edgekd.plain import line
from edgekd.plugins import is_foreign, package_of
from edgekd.stages.binding import Bound
from edgekd.stages.detector_checks import require_channels, require_model, require_trainable
from edgekd.stages.method_fit import instead_of, unreadable
from edgekd.stages.teachers import (
    Methods,
    Side,
    average_of,
    ensemble,
    learns_from,
    matched,
    open_teacher,
    place_of,
    recipes_of,
)
from edgekd.training.engines.placement import torch_device
from edgekd.training.engines.precision import require_amp
from edgekd.training.teacher_runtime import RUNTIMES


@dataclass(frozen=True)
class RunDetectors:
    """The detectors of a run.

    Attributes:
        student: with its initial weights; `initialised` says whether these come from a file.
        head: the student's branch that is selected, validated, exported and reported.
        teachers: by name; also the student's own average, where a method learns from it.
        inherited: weights of the first teacher that the student, and the control, start from.
    """

    student: Trainable
    head: Branch | None
    initialised: bool
    teachers: Mapping[str, Side]
    inherited: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def teacher(self) -> Detector | None:
        """The first one; None in a recipe without."""
        return self.teachers[MAIN].detector if MAIN in self.teachers else None

    @property
    def classes(self) -> tuple[ClassMatch, ...]:
        """Those of the data, matched with the first teacher's; empty without a teacher or data."""
        return self.teachers[MAIN].classes if MAIN in self.teachers else ()

    def of_methods(self, teacher: str = MAIN) -> Pair:
        """The student and a teacher as methods see them; nothing can be taken of the student's own average."""
        side = self.teachers[teacher]
        names = tuple(match.name for match in side.classes)
        pair = Pair.of(self.student.spec, side.detector, columns_of(side.classes), names)
        return replace(pair, head_tail=no_parts) if teacher == EMA else pair


def build_detectors(
    bound: Bound, class_names: tuple[str, ...], channels: int, architecture_only: bool = False
) -> RunDetectors:
    """Build the detectors on the CPU.

    Args:
        architecture_only: build from `model` alone, without opening weights.

    Raises:
        InputError: a file is missing or foreign, a head does not exist, channels differ, a method cannot serve, a
            teacher knows no class of the data.
    """
    recipe, where = bound.recipe, bound.where
    guard_rng()
    student_path = None if architecture_only and recipe.student.model else bound.weights_path(recipe.student)
    asked = Asked(recipe.student.model, student_path, class_names, channels, f"{where}: student")
    student = families.trainable(families.open_detector(recipe.student.family, asked), asked.where)
    found = {name: open_teacher(bound, name, class_names, channels, architecture_only) for name in recipes_of(recipe)}
    require_channels(channels, where, student=student, **{place_of(name): one for name, one in found.items()})
    require_trainable(student, recipe.train, where)
    sides = {place_of(name): (recipes_of(recipe)[name], one) for name, one in found.items()}
    if not architecture_only:
        require_model(where, student=(recipe.student, student), **sides)
    student, found = _with_taps(bound.distillers, student, found)
    teachers = {name: matched(bound, name, one, class_names) for name, one in found.items()}
    teachers |= {name: ensemble(bound, name, teachers, class_names) for name in recipe.ensembles}
    if learns_from(bound.distillers, EMA):
        teachers[EMA] = average_of(student, class_names)
    taken = {}
    if recipe.student.inherit and class_names:
        taken = inherited(student, found[MAIN], recipe.student.inherit, f"{where}: student.inherit")
    pair = RunDetectors(student, _head(bound, student.spec), student_path is not None, teachers, taken)
    check_methods(bound, pair)
    _check_targets(bound, student, channels)
    return pair


def _check_targets(bound: Bound, student: Detector, channels: int) -> None:
    """A size, or anything else that a target cannot be made with, must not cost a training."""
    train_size = (bound.recipe.imgsz_px, bound.recipe.imgsz_px)
    problems: list[str] = []
    for index, target in enumerate(bound.targets):
        try:
            size_px = check_size(target, train_size, student.spec.size_multiple)
        except EdgekdError as error:
            found: Sequence[str] = error.problems
        else:
            found = foresee.problems(target, size_px, channels)
        problems += [f"{bound.where}: export[{index}]: {problem}" for problem in found]
    if problems:
        raise InputError(*problems)


def quantization_detectors(bound: Bound, pair: RunDetectors, student: Trainable) -> RunDetectors:
    """Who trains under fake quantisation, and who teaches: the float student, or the recipe's teacher.

    Args:
        student: the trained one, or for a check one of its kind.
    """
    side = pair.teachers.get(MAIN) if bound.recipe.quantize.teacher == "teacher" else Side(None, student)
    assert side is not None, "the recipe's schema asks for a teacher"
    learner, found = _with_taps(bound.quantize_distillers, student, {MAIN: side.detector})
    return RunDetectors(learner, pair.head, True, {MAIN: replace(side, detector=found[MAIN])})


def check_methods(bound: Bound, pair: RunDetectors) -> None:
    """Refuse impossible pairs, all at once.

    Raises:
        InputError: one line per method that cannot serve the pair.
    """
    problems = _problems(pair, bound.distillers, f"{bound.where}: distill")
    if bound.recipe.quantize.mode == "qat":
        second = quantization_detectors(bound, pair, pair.student)
        problems += _problems(second, bound.quantize_distillers, f"{bound.where}: quantize.distill")
        problems += [
            f"{bound.where}: quantize.distill[{index}]: {name} has a preparation, which this section does not do; use "
            "another method"
            for index, (name, _) in enumerate(bound.quantize_distillers)
            if distiller_type(name).prepares
        ]
    if problems:
        raise InputError(*problems)


def _problems(pair: RunDetectors, methods: Methods, where: str) -> list[str]:
    """Why methods cannot serve their pairs."""
    guiding = [name for name, _ in methods if distiller_type(name).guides]
    problems = [f"{where}: {', '.join(guiding)} each steer the student's own loss; keep one"] if guiding[1:] else []
    for index, (name, config) in enumerate(methods):
        reasons = method_problems(pair, name, config)
        hint = instead_of(name, pair.of_methods(config.teacher), partial(_serves, pair, config)) if reasons else ""
        problems += [f"{where}[{index}]: {reason}{hint}" for reason in reasons]
    return problems


def _serves(pair: RunDetectors, refused: DistillerConfig, name: str) -> bool:
    """Whether a method with its defaults serves the pair of one that is refused."""
    config = distiller_type(name).config_type.model_validate({"teacher": refused.teacher})
    return not method_problems(pair, name, config)


def method_problems(pair: RunDetectors, name: str, config: DistillerConfig | None = None) -> list[str]:
    """Every reason why a method cannot serve the student and its teacher; empty if it can.

    Args:
        config: None: the method's defaults.
    """
    kind = distiller_type(name)
    config = config or kind.config_type.model_validate({})
    side, sides = pair.teachers[config.teacher], pair.of_methods(config.teacher)
    reasons = [f"{name} {reason}" for reason in unmet(kind.requires, sides)]
    if reasons:
        reasons += _unknown_taps(name, config, sides)
    else:
        try:
            part = kind(config, sides)
        except EdgekdError as error:
            reasons = list(error.problems)
        except Exception as error:
            if not is_foreign(kind):
                raise
            reasons = [f"{name} of package {package_of(kind)} fails: {type(error).__name__}: {line(str(error))}"]
        else:
            reasons = [f"{name} {reason}" for reason in unreadable(side.runtime, part, side.detector.spec)]
    if reasons and isinstance(sides.teacher.head, DetectionsHead):
        return [
            f"{name} looks into the teacher; of teacher {sides.teacher.name} nothing is known but its detections: use "
            "them as labels (data.unlabelled), or another teacher for this method"
        ]
    return reasons


def _unknown_taps(name: str, config: DistillerConfig, pair: Pair) -> list[str]:
    """Taps that one of the sides does not have, of a method that cannot be built for other reasons."""
    if not isinstance(config, FeatureConfig):
        return []
    problems: list[str] = []
    for side, spec, taps in (
        ("student", pair.student, config.taps), ("teacher", pair.teacher, config.teacher_taps or config.taps),
    ):  # fmt: skip
        try:
            find_taps(side, spec, taps, name)
        except InputError as error:
            problems += error.problems
    return problems


def check_runtime(bound: Bound) -> None:
    """Refuse what cannot be had here, before anything is trained: AMP, the teacher's runtime and its precision.

    Raises:
        InputError: it cannot be on the device of `train.device`.
        EnvironmentFault: something is missing.
    """
    recipe = bound.recipe
    try:
        device = torch_device(recipe.train.get("device"))
        require_amp(recipe.train.get("amp"), device)
        used = {config.teacher for _, config in bound.distillers}
        used |= {recipe.quantize.teacher} if recipe.quantize.mode == "qat" else set()
        for name, teacher in recipes_of(recipe).items():
            if name in used:
                RUNTIMES[teacher.runtime].check(teacher.precision, device)
    except EdgekdError as error:
        raise type(error)(*(f"{bound.where}: {problem}" for problem in error.problems)) from error


def _with_taps(
    methods: Methods, student: Trainable, teachers: Mapping[str, Detector]
) -> tuple[Trainable, dict[str, Detector]]:
    """All detectors, in whose specs module paths in `taps` and `teacher_taps` are taps."""
    configs = [config for _, config in methods if isinstance(config, FeatureConfig)]
    theirs = {
        name: [
            path
            for config in configs
            if config.teacher == name
            for path in named_paths(config.teacher_taps or config.taps)
        ]
        for name in (*teachers, EMA)
    }
    ours = [path for config in configs for path in named_paths(config.taps)] + theirs[EMA]
    return student.with_taps(ours), {name: one.with_taps(theirs[name]) for name, one in teachers.items()}


def _head(bound: Bound, spec: Spec) -> Branch | None:
    asked = bound.recipe.student.head
    if asked is not None and asked not in spec.branches:
        raise InputError(f"{bound.where}: student.head: {unknown('head', asked, spec.branches)} of {spec.name}")
    return asked or (spec.branches[0] if spec.branches else None)


def guard_rng() -> None:
    """Random weights made here never train (the engine draws its own), but a fixed draw keeps messages reproducible."""
    import torch

    torch.manual_seed(0)
