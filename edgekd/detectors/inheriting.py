"""Weights that a student takes over from its teacher before it is trained: its neck's, its head's, where they fit.

"Inheriting" is part of many published gains (FGD, MGD and DetKDS begin so between detectors of one neck width). A
convolution and the norm behind it are taken together or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgekd.detectors.contract import Detector, Trainable
from edgekd.errors import InputError


def inherited(student: Trainable, teacher: Detector, sections: Sequence[str], where: str) -> dict[str, Tensor]:
    """What the student takes over, by the names of its own state.

    Args:
        sections: of `Trainable.sections`, such as `neck`.
        where: key of the recipe, for messages.

    Raises:
        InputError: another family, other classes where the head is asked for, or nothing that fits.
    """
    if student.spec.family != teacher.spec.family:
        raise InputError(
            f"{where}: {student.spec.name} is of the family {student.spec.family}, {teacher.spec.name} of "
            f"{teacher.spec.family}; only a teacher of the same family has such weights: leave it out"
        )
    if "head" in sections and student.spec.class_names != teacher.spec.class_names:
        raise InputError(f"{where}: the head predicts the teacher's classes, which are not those of the data; use neck")
    prefixes = tuple(prefix for section in sections for prefix in student.sections()[section])
    theirs = dict(teacher.module.named_modules())
    found: dict[str, Tensor] = {}
    for path, block in student.module.named_modules():
        if not f"{path}.".startswith(prefixes) or path not in theirs:
            continue
        own, other = _own(block), _own(theirs[path])
        if _fit(own, other):
            found |= {f"{path}.{name}": other[name].detach().clone() for name in own}
    if not found:
        raise InputError(
            f"{where}: no layer of {' or '.join(sections)} of {teacher.spec.name} has the shape of "
            f"{student.spec.name}'s; leave it out"
        )
    return found


def share(tensors: dict[str, Tensor], student: Detector) -> float:
    """Part of the student's weights that these are, 0..1."""
    names = dict(student.module.named_parameters())
    taken = sum(value.numel() for name, value in tensors.items() if name in names)
    return taken / sum(value.numel() for value in names.values())


def _own(block: nn.Module) -> dict[str, Tensor]:
    """State of the layers right below a block: a convolution and its norm, say."""
    leaves = {name: child for name, child in block.named_children() if not list(child.children())}
    return {f"{name}.{key}": value for name, child in leaves.items() for key, value in child.state_dict().items()}


def _fit(own: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether all of it is there, in the same shapes; an empty block has nothing to fit."""
    return bool(own) and all(name in other and other[name].shape == value.shape for name, value in own.items())
