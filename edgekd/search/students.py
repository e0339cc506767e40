"""The students that a shortlist compares: which there are, and what is known of each before it is measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekd.detectors import families
from edgekd.detectors.families import family, family_names
from edgekd.devices.contract import DeviceSpec
from edgekd.errors import EdgekdError, EnvironmentFault, InputError, unknown
from edgekd.export.contract import TargetSpec, step
from edgekd.export.targets import load_target
from edgekd.progress import say
from edgekd.recipe.lookup import available
from edgekd.recipe.search import StudentsRecipe
from edgekd.search.facts import Facts, FactsStore
from edgekd.search.published import published
from edgekd.stages.binding import Bound

_PRECISIONS = ("int8", "fp16", "fp32")  # by how much of the student they keep
_SCALE = re.compile(r"-?(?:p|n|t|s|m|l|x|nano|tiny|small|medium|large)$")
_GRID_PX = 32  # of sizes that edgekd chooses


@dataclass(frozen=True)
class Candidate:
    """One student at one size, as one target.

    Attributes:
        model: as `student.model`.
        size_px: side of the square input.
        facts: of the model at that size.
        coco_ap: published, in percent at 640 px; None where there is no such figure.
    """

    model: str
    size_px: int
    target: TargetSpec
    facts: Facts
    coco_ap: float | None = None

    @property
    def run(self) -> str:
        """Name of its run directory, which it shares with other targets."""
        model = Path(self.model).stem if is_file(self.model) else self.model
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', model)}-{self.size_px}"

    @property
    def name(self) -> str:
        """What `--pick` takes."""
        return f"{self.run}/{self.target.name}"

    @property
    def series(self) -> str:
        """The model's name without its scale: `yolo11` of yolo11n."""
        return _SCALE.sub("", self.model)

    def at_least_as_good(self, other: Candidate) -> bool:
        """Whether it is at least as good in all that is known before training: size, precision, and model.

        Of two models the better one has the higher published AP; of one series, the one with more weights.
        """
        kept, other_kept = (_PRECISIONS.index(one.target.precision) for one in (self, other))
        if self.size_px < other.size_px or kept < other_kept:
            return False
        if self.model == other.model:
            return True
        if self.coco_ap is not None and other.coco_ap is not None:
            return self.coco_ap >= other.coco_ap
        return self.series == other.series and self.facts.parameters >= other.facts.parameters


def space(bound: Bound, device: DeviceSpec, store: FactsStore) -> list[Candidate]:
    """Every candidate that a recipe names for a device.

    Args:
        store: looks into the models, and keeps what it found.

    Raises:
        InputError: nothing to choose from, or one line per model, size or target that cannot be.
        EnvironmentFault: a family or target that the recipe names cannot be had here.
    """
    asked, where = bound.recipe.search.students, f"{bound.where}: search.students"
    models = _models(asked, where)
    targets = _targets(bound, asked, device, where)
    sizes = sorted(asked.sizes or default_sizes(bound.recipe.imgsz_px), reverse=True)
    if not models or not targets:
        lacking = "model" if not models else "target"
        raise InputError(
            f"{where}: no {lacking} is left to compare on {device.name}; name some in {where.rpartition(' ')[2]}."
            f"{lacking}s, or fewer limits"
        )
    facts = store.of(models, sizes, where)
    known = published()
    return [
        Candidate(model, size, target, facts[model, size], known.get(model))
        for model in models
        for size in sizes
        for target in targets
        if (model, size) in facts
    ]


def default_sizes(size_px: int) -> list[int]:
    """The training size, and three quarters and half of it, in steps of 32 px."""
    smaller = [max(round(size_px * share / _GRID_PX), 1) * _GRID_PX for share in (0.75, 0.5)]
    return sorted({size_px, *(size for size in smaller if size < size_px)}, reverse=True)


def is_file(model: str) -> bool:
    """Whether a model is described by a file."""
    return model.endswith((".yaml", ".yml"))


def _models(asked: StudentsRecipe, where: str) -> list[str]:
    if not asked.models:
        return _every_model()
    problems: list[str] = []
    lacking: list[str] = []
    for index, model in enumerate(asked.models):
        name = families.meant(model, None)
        if name is None:
            known = [one for name in family_names() for one in families.student_models(name)]
            problems.append(f"{where}.models[{index}]: {unknown('model', model, known)}")
        elif families.only_teaches(name, model):
            problems.append(
                f"{where}.models[{index}]: {model} of family {name} can teach, but not be trained; name a student"
            )
        elif reason := family(name).missing():
            lacking.append(f"{where}.models[{index}]: {model}: family {name}: {reason}")
    if problems:
        raise InputError(*problems, *lacking)
    if lacking:
        raise EnvironmentFault(*lacking)
    return list(asked.models)


def _every_model() -> list[str]:
    """Of families whose students can be trained, and that are installed."""
    models = []
    for name in family_names():
        one = family(name)
        if one.student_files and (reason := one.missing()):
            say(f"shortlist: family {name} is left out: {reason}")
        elif one.student_files:
            models += families.student_models(name)
    return models


def _targets(bound: Bound, asked: StudentsRecipe, device: DeviceSpec, where: str) -> list[TargetSpec]:
    """Targets at the candidate's size, whatever size the recipe's own have."""
    if asked.targets:
        found = list(_named_targets(bound, asked.targets, device, where))
    else:
        found = [one for one in bound.targets if one.runtime in device.runtimes] or list(_every_target(device))
    if asked.precisions:
        found = [one for one in found if one.precision in asked.precisions]
    return [one if one.size is None else one.model_copy(update={"size": None}) for one in found]


def _named_targets(bound: Bound, names: Sequence[str], device: DeviceSpec, where: str) -> Iterator[TargetSpec]:
    problems: list[str] = []
    own = {one.name: one for one in bound.targets}
    for index, name in enumerate(names):
        place = f"{where}.targets[{index}]"
        try:
            found = own[name] if name in own else load_target(name, {}, place)
        except EdgekdError as error:
            problems += [f"{place}: {problem}" for problem in error.problems]
            continue
        if found.runtime not in device.runtimes:
            problems.append(
                f"{place}: {device.name} has no runtime {found.runtime} for {name} (it has "
                f"{', '.join(device.runtimes)}); leave it out"
            )
        else:
            yield found
    if problems:
        raise InputError(*problems)


def _every_target(device: DeviceSpec) -> Iterator[TargetSpec]:
    """What this machine can make for the runtimes of the device."""
    for name in sorted(available("export")):
        target = load_target(name, {}, name)
        if target.runtime in device.runtimes and not any(step(one).missing() for one in target.steps):
            yield target
