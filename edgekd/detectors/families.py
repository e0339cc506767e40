"""The families that recipes can name: built-in ones, and those of other packages by entry points `edgekd.families`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from edgekd import plugins
from edgekd.detectors.contract import Asked, Detector, Family, Trainable
from edgekd.errors import EnvironmentFault, InputError, unknown

# In the order in which they are asked.
_BUILT_IN = ("ultralytics", "rtmdet", "torchvision", "transformers", "onnx", "predictions")
_REGISTRY: dict[str, Family] = {}


def register(family: Family) -> None:
    """Make a family known. One that lacks a member raises, and so does a second registration under one name."""
    lacking = [name for name in _members(Family) if not hasattr(family, name)]
    if lacking:
        raise TypeError(f"family {getattr(family, 'name', family)!r} lacks {', '.join(lacking)}, see Family")
    if family.name in _REGISTRY:
        raise ValueError(f"family '{family.name}' is registered twice: {_REGISTRY[family.name]!r} and {family!r}")
    _REGISTRY[family.name] = family


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        KeyError: with the text for the user; the caller adds where the name stood.
    """
    _load()
    if name not in _REGISTRY:
        raise KeyError(unknown("family", name, _REGISTRY))
    return _REGISTRY[name]


def family_names() -> list[str]:
    """Names of all families, the built-in ones first."""
    _load()
    return [*_BUILT_IN, *(name for name in _REGISTRY if name not in _BUILT_IN)]


def only_teaches(name: str, model: str) -> bool:
    """Whether a model of that family can teach, but not be trained."""
    one = family(name)
    return not one.student_files or model in getattr(one, "teach_only", ())


def student_models(name: str) -> list[str]:
    """Names of a family's models that can be trained."""
    return [model for model in family(name).models() if not only_teaches(name, model)]


def meant(model: str | None, weights: Path | None) -> str | None:
    """The family that a recipe without `family` means: the first that accepts what is given; None if none does."""
    return next((name for name in family_names() if _accepts(name, model, weights)), None)


def open_detector(name: str | None, asked: Asked) -> Detector:
    """Open a detector on the CPU.

    Args:
        name: of the family; None: the one that is meant.

    Raises:
        InputError: no family opens it, or its own reason why it cannot.
        EnvironmentFault: something that the family needs is not installed.
    """
    name = name or meant(asked.model, asked.weights)
    if name is None:
        raise _refused(asked)
    one = family(name)
    if reason := one.missing():
        raise EnvironmentFault(f"{asked.where}: family {name}: {reason}")
    return one.open(asked)


def trainable(detector: Detector, where: str) -> Trainable:
    """The detector, if it can be trained.

    Raises:
        InputError: it can only teach, or its package was written for another version of edgekd.
    """
    if isinstance(detector, Trainable):
        return detector
    lacking = [name for name in (*_members(Trainable), *_members(Detector)) if not hasattr(detector, name)]
    if hasattr(detector, "training_pass"):
        raise InputError(
            f"{where}: family {detector.spec.family} lacks {', '.join(lacking)}, which edgekd asks of students; update "
            "the package that it comes from"
        )
    raise InputError(
        f"{where}: {detector.spec.name} of family {detector.spec.family} can teach, but not be trained; "
        "use it as the teacher, and a model of another family as the student"
    )


def _members(protocol: type) -> list[str]:
    """What a protocol asks for by name, attributes first."""
    return [name for name in dict.fromkeys((*protocol.__annotations__, *vars(protocol))) if not name.startswith("_")]


def _accepts(name: str, model: str | None, weights: Path | None) -> bool:
    """Whether the family does; one of another package that fails at the question does not, and that is told once."""
    try:
        return _REGISTRY[name].accepts(model, weights)
    except Exception as error:
        if name in _BUILT_IN:
            raise
        plugins.left_out(f"family '{name}' of package {plugins.package_of(type(_REGISTRY[name]))}", error)
        return False


def _refused(asked: Asked) -> InputError:
    if asked.model is None and asked.weights is not None:
        return InputError(
            f"{asked.where}.weights: {asked.weights}: no family recognises it (asked: {', '.join(family_names())}); "
            "give its 'model' beside it, without which files of torchvision are not known, or weights of one of these"
        )
    if asked.model is None:
        return InputError(f"{asked.where}: give 'model' (a name such as yolo26n) or 'weights' (a file)")
    models = [model for one in _REGISTRY.values() for model in one.models()]
    return InputError(f"{asked.where}.model: {unknown('model', asked.model, models)}")


def _load() -> None:
    """Register every family: our own first, so that none of another package takes a name of theirs."""
    for name in _BUILT_IN:
        import_module(f"edgekd.detectors.{name}.family")
    plugins.load("edgekd.families")
