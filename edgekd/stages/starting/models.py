"""The teacher as it is found, a student for it, and the methods that serve the two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.spec import DenseHead, Spec
from edgekd.distill.contract import distiller_names, distiller_type
from edgekd.recipe.presets import load_preset
from edgekd.stages.models import RunDetectors, method_problems
from edgekd.stages.starting.text import Line

_SIZES = ("p", "n", "t", "tiny", "s", "m", "l", "x", "b", "h")  # in the order of their size, whatever the series
_USUAL = "yolo11n"
_ANY_PAIR = ("mgd", "cwd", "pkd", "fitnet")  # read feature maps alone


def open_teacher(weights: Path, model: str | None, class_names: tuple[str, ...], channels: int) -> Detector:
    """The teacher on the CPU.

    Raises:
        InputError: the file is missing, or no detector.
    """
    return families.open_detector(None, Asked(model, weights, class_names, channels, "teacher"))


def student_for(teacher: Detector) -> str:
    """The smallest usual model of the teacher's series; of a teacher as small, or of no series, another one."""
    found = model_of(teacher)
    series, size = _split(found) if found else ("", "")
    if not series or not _learns_from_few(teacher.spec, found) or size not in _SIZES:
        return _USUAL
    names = families.student_models(teacher.spec.family)
    for small in ("n", "tiny", "p"):
        name = next((one for one in names if _split(one) == (series, small)), None)
        if name is not None and _SIZES.index(small) < _SIZES.index(size):
            return name
    return _USUAL


def model_of(detector: Detector) -> str | None:
    """The model that a detector is of, by its layers; None where it is none that has a name."""
    family = families.family(detector.spec.family)
    return next((name for name in family.models() if not family.differing(name, detector, "teacher")), None)


def methods(pair: RunDetectors) -> list[Line]:
    """What to distil: the methods of the quickstart that serve the pair, else one that reads maps alone."""
    usual = [entry for entry in load_preset("quickstart")["distill"] if not method_problems(pair, entry["method"])]
    if usual:
        kept = [{key: entry[key] for key in ("method", "weight")} for entry in usual]
        return [Line("", entry, distiller_type(entry["method"]).card.about) for entry in kept]
    any_pair = [name for name in _ANY_PAIR if not method_problems(pair, name)]
    return [
        Line("", {"method": name, "weight": "auto"}, f"{distiller_type(name).card.about}; no other usual one serves")
        for name in any_pair[:1]
    ]


def serving(pair: RunDetectors) -> tuple[int, int]:
    """(methods that serve the pair, all methods)."""
    names = distiller_names()
    return sum(not method_problems(pair, name) for name in names), len(names)


def in_words(spec: Spec, known: str | None) -> str:
    """Such as `rtmdet rtmdet-x, 94.9 M parameters, dense head`."""
    return f"{spec.family} {known or spec.name}, {spec.parameters / 1e6:.1f} M parameters, {spec.head.kind} head"


def weights_beside(model: str, folders: Sequence[Path]) -> Path | None:
    """Weights of the student that lie ready."""
    names = (f"{model}{suffix}" for suffix in (".pt", ".safetensors"))
    return next((folder / name for name in names for folder in folders if (folder / name).is_file()), None)


def _split(model: str) -> tuple[str, str]:
    """`("yolo11", "x")`, `("rtmdet-", "tiny")`."""
    sizes = sorted(_SIZES, key=len, reverse=True)
    size = next((one for one in sizes if model.endswith(one)), "")
    return model[: len(model) - len(size)], size


def _learns_from_few(spec: Spec, model: str | None) -> bool:
    """Whether students of the series learn well from few images: those with queries want more, and some only teach."""
    return isinstance(spec.head, DenseHead) and not families.only_teaches(spec.family, str(model))
