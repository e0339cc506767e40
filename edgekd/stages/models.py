"""Builds a recipe's teacher and student, checks that every method can serve the pair, and describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekd.detectors.architectures import architecture
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.class_matching import ClassMatch, match_classes
from edgekd.detectors.spec import Branch, Spec
from edgekd.detectors.ultralytics import UltralyticsDetector
from edgekd.distill.adapters import named_paths
from edgekd.distill.contract import Distiller, DistillerConfig, FeatureConfig, distiller_type
from edgekd.distill.contract import Pair as MethodPair
from edgekd.distill.requirements import some, unmet
from edgekd.errors import EdgekdError, InputError, unknown
from edgekd.export.targets import check_size
from edgekd.progress import say
from edgekd.recipe.schema import DetectorRecipe
from edgekd.stages.binding import Bound
from edgekd.training.placement import torch_device
from edgekd.training.precision import require_amp
from edgekd.training.teacher import Teacher
from edgekd.training.teacher_runtime import RUNTIMES, RuntimeName


@dataclass(frozen=True)
class Pair:
    """The detectors of a run.

    Attributes:
        student: with its initial weights; `initialised` says whether these come from a file.
        teacher: None in a recipe without one.
        head: the student's branch that is selected, validated, exported and reported.
        classes: those of the data, matched with the teacher's; empty without a teacher or data.
    """

    student: UltralyticsDetector
    teacher: UltralyticsDetector | None
    head: Branch | None
    initialised: bool
    classes: tuple[ClassMatch, ...] = ()

    def of_methods(self) -> MethodPair:
        """The two sides as methods see them."""
        assert self.teacher is not None, "the recipe's schema asks for a teacher"
        names = tuple(match.name for match in self.classes)
        known = [match.column is not None for match in self.classes]
        return MethodPair.of(self.student.spec, self.teacher, known, names)


def build_pair(bound: Bound, class_names: tuple[str, ...], channels: int, architecture_only: bool = False) -> Pair:
    """Build both detectors on the CPU.

    Args:
        architecture_only: build from `model` alone, without opening weights.

    Raises:
        InputError: a file is missing or foreign, a head does not exist, channels differ, a method cannot serve, the
            teacher knows no class of the data.
    """
    recipe, where = bound.recipe, bound.where
    guard_rng()
    student_path = None if architecture_only and recipe.student.model else bound.weights_path(recipe.student)
    student = UltralyticsDetector.from_recipe(
        recipe.student.model, student_path, class_names, channels, f"{where}: student"
    )
    teacher = None
    if recipe.teacher is not None:
        teacher_path = None if architecture_only and recipe.teacher.model else bound.weights_path(recipe.teacher)
        if teacher_path is None and not architecture_only:
            raise InputError(
                f"{where}: teacher.weights: missing; name a trained file, e.g. best.pt: random weights teach nothing"
            )
        teacher = UltralyticsDetector.from_recipe(
            recipe.teacher.model, teacher_path, class_names, channels, f"{where}: teacher"
        )
        student, teacher = _with_taps(bound.distillers, student, teacher)
    _require_channels(channels, where, student=student, teacher=teacher)
    _require_model(where, student=(recipe.student, student), teacher=(recipe.teacher, teacher))
    classes = _classes(bound, teacher.spec, class_names) if teacher and class_names else ()
    pair = Pair(student, teacher, _head(bound, student.spec), student_path is not None, classes)
    check_methods(bound, pair)
    _check_sizes(bound, student)
    return pair


def _classes(bound: Bound, teacher: Spec, class_names: tuple[str, ...]) -> tuple[ClassMatch, ...]:
    """The classes of the data, matched with the teacher's."""
    assert bound.recipe.teacher is not None
    where = f"{bound.where}: teacher.classes"
    matches = match_classes(teacher.class_names, class_names, bound.recipe.teacher.classes, where)
    if all(match.how in ("none", "ambiguous") for match in matches):
        raise InputError(
            f"{where}: teacher {teacher.name} knows none of the classes of the data ({some(class_names)}), its own are "
            f"{some(teacher.class_names)}; name its class for each that it knows; to teach by feature maps alone, set "
            "each to null"
        )
    return matches


def _check_sizes(bound: Bound, student: UltralyticsDetector) -> None:
    """A size that a target cannot be made at must not cost a training."""
    train_size = (bound.recipe.imgsz_px, bound.recipe.imgsz_px)
    problems: list[str] = []
    for index, target in enumerate(bound.targets):
        try:
            check_size(target, train_size, student.spec.size_multiple)
        except EdgekdError as error:
            problems += [f"{bound.where}: export[{index}]: {problem}" for problem in error.problems]
    if problems:
        raise InputError(*problems)


def quantization_pair(bound: Bound, pair: Pair, student: UltralyticsDetector) -> Pair:
    """Who trains under fake quantisation, and who teaches: the float student, or the recipe's teacher.

    Args:
        student: the trained one, or for a check one of its kind.
    """
    own = bound.recipe.quantize.teacher == "student"
    assert own or pair.teacher is not None, "the recipe's schema asks for a teacher"
    teacher = student if own else pair.teacher
    assert teacher is not None
    sides = _with_taps(bound.quantize_distillers, student, teacher)
    return Pair(*sides, head=pair.head, initialised=True, classes=() if own else pair.classes)


def check_methods(bound: Bound, pair: Pair) -> None:
    """Refuse impossible pairs, all at once.

    Raises:
        InputError: one line per method that cannot serve the pair.
    """
    recipe = bound.recipe
    runtime = recipe.teacher.runtime if recipe.teacher else "eager"
    problems: list[str] = []
    if pair.teacher is not None:
        problems += _problems(pair, bound.distillers, f"{bound.where}: distill", runtime)
    if recipe.quantize.mode == "qat":
        runtime = runtime if recipe.quantize.teacher == "teacher" else "eager"
        second = quantization_pair(bound, pair, pair.student)
        problems += _problems(second, bound.quantize_distillers, f"{bound.where}: quantize.distill", runtime)
    if problems:
        raise InputError(*problems)


def _problems(
    pair: Pair, methods: Sequence[tuple[str, DistillerConfig]], where: str, runtime: RuntimeName
) -> list[str]:
    """Why methods cannot serve a pair whose teacher is run so."""
    guiding = [name for name, _ in methods if distiller_type(name).guides]
    problems = [f"{where}: {', '.join(guiding)} each steer the student's own loss; keep one"] if guiding[1:] else []
    for index, (name, config) in enumerate(methods):
        problems += [f"{where}[{index}]: {reason}" for reason in method_problems(pair, name, runtime, config)]
    return problems


def method_problems(pair: Pair, name: str, runtime: RuntimeName, config: DistillerConfig | None = None) -> list[str]:
    """Every reason why a method cannot serve a pair whose teacher is run so; empty if it can.

    Args:
        config: None: the method's defaults.
    """
    assert pair.teacher is not None
    kind, sides = distiller_type(name), pair.of_methods()
    reasons = unmet(kind.requires, sides)
    if reasons:
        return [f"{name} {reason}" for reason in reasons]
    try:
        part = kind(config or kind.config_type.model_validate({}), sides)
    except EdgekdError as error:
        return list(error.problems)
    return [f"{name} {reason}" for reason in _unreadable(runtime, part, pair.teacher.spec)]


def _unreadable(runtime: RuntimeName, part: Distiller, teacher: Spec) -> list[str]:
    """Why a method cannot read what it needs from the teacher as the recipe runs it."""
    parts, kind = part.wiring.teacher.head, teacher.head.kind
    if not parts or kind in RUNTIMES[runtime].heads:
        return []
    return [
        f"reads {', '.join(sorted(parts))} of the teacher; teacher {teacher.name} has a {kind} head, whose outputs "
        f"runtime {runtime} cannot give; set teacher.runtime to {' or '.join(_runtimes_for(kind))}"
    ]


def _runtimes_for(kind: str) -> list[str]:
    return [name for name, runtime in RUNTIMES.items() if kind in runtime.heads]


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
        teaches = recipe.distill or recipe.quantize.teacher == "teacher"
        if recipe.teacher is not None and teaches:
            RUNTIMES[recipe.teacher.runtime].check(recipe.teacher.precision, device)
    except EdgekdError as error:
        raise type(error)(*(f"{bound.where}: {problem}" for problem in error.problems)) from error


def make_teacher(bound: Bound, pair: Pair, here: Any = None) -> Teacher:
    """The recipe's teacher, frozen, as it runs while it teaches.

    Args:
        here: a device that may not be the recipe's, for a trial; what cannot run there is left to torch.
    """
    assert pair.teacher is not None, "the recipe's schema asks for a teacher"
    assert bound.recipe.teacher is not None
    runtime, precision = bound.recipe.teacher.runtime, bound.recipe.teacher.precision
    if here is not None:
        try:
            RUNTIMES[runtime].check(precision, here)
        except EdgekdError as error:
            say(f"note: {error}: the trial runs the teacher as it is")
            runtime, precision = "eager", None
    return Teacher(pair.teacher.frozen(), ClassMap.of(pair.classes), runtime, precision)


def _with_taps(
    methods: Sequence[tuple[str, DistillerConfig]], student: UltralyticsDetector, teacher: UltralyticsDetector
) -> tuple[UltralyticsDetector, UltralyticsDetector]:
    """Both sides, in whose specs module paths in `taps` and `teacher_taps` are taps."""
    configs = [config for _, config in methods if isinstance(config, FeatureConfig)]
    ours = [path for config in configs for path in named_paths(config.taps)]
    theirs = [path for config in configs for path in named_paths(config.teacher_taps or config.taps)]
    return student.with_taps(ours), teacher.with_taps(theirs)


def _require_channels(channels: int, where: str, **detectors: UltralyticsDetector | None) -> None:
    """Refuse weights made for images of another number of channels."""
    problems = [
        f"{where}: {side}: takes {detector.spec.input_channels} input channels, the data has {channels}; "
        f"use weights trained on such data"
        for side, detector in detectors.items()
        if detector is not None and detector.spec.input_channels != channels
    ]
    if problems:
        raise InputError(*problems)


def _require_model(where: str, **sides: tuple[DetectorRecipe | None, UltralyticsDetector | None]) -> None:
    """Refuse weights of another model than the recipe names beside them."""
    problems = []
    for side, (asked, detector) in sides.items():
        if asked is None or detector is None or asked.model is None or asked.weights is None:
            continue
        expected = _features(architecture(asked.model, f"{where}: {side}.model"))
        found = _features(detector.module.yaml)
        differing = [key for key, value in expected.items() if found[key] not in (value, None)]
        if differing:
            problems.append(
                f"{where}: {side}.weights: {asked.weights} holds another model than {side}.model: {asked.model} "
                f"({', '.join(differing)} differ); correct one, or leave {side}.model out"
            )
    if problems:
        raise InputError(*problems)


def _features(config: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one model YAML from another, whatever version of the engine wrote it; None where it does not say."""
    scale = (config.get("scales") or {}).get(config.get("scale"))
    return {
        "layers": [layer[2] for layer in (*config["backbone"], *config["head"])],
        "scale": list(scale) if scale else None,
        "bins": config.get("reg_max", 16),
    }


def _head(bound: Bound, spec: Spec) -> Branch | None:
    asked = bound.recipe.student.head
    if asked is not None and asked not in spec.branches:
        raise InputError(f"{bound.where}: student.head: {unknown('head', asked, spec.branches)} of {spec.name}")
    return asked or (spec.branches[0] if spec.branches else None)


def guard_rng() -> None:
    """Random weights made here never train (the engine draws its own), but a fixed draw keeps messages reproducible."""
    import torch

    torch.manual_seed(0)
