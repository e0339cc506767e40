"""The recipe of the student that a user picks from a shortlist: theirs, with its student, size, target and device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.atomic import write_text
from edgekd.detectors import families
from edgekd.errors import InputError, unknown
from edgekd.files import read_text
from edgekd.recipe.edit import append_item, remove_key, set_value
from edgekd.recipe.load import read_recipe
from edgekd.recipe.paths import moved
from edgekd.recipe.yaml_text import MOST_BYTES, read_mapping
from edgekd.search.shortlist import Shortlist
from edgekd.search.students import Candidate
from edgekd.stages.binding import bind_recipe


@dataclass(frozen=True)
class Picked:
    """A recipe that was written.

    Attributes:
        notes: what the user should know of it, a sentence each.
    """

    file: Path
    name: str
    notes: tuple[str, ...]


def write_picked(found: Shortlist, recipe: Path, name: str, out: Path, device: str | None) -> Picked:
    """Write the recipe of a candidate; nothing is overwritten.

    Args:
        recipe: the user's file, whose text is kept but for what changes.
        device: as the user named it.

    Raises:
        InputError: no such candidate, or the file exists.
    """
    candidate = next((one for one in found.candidates if one.name == name), None)
    if candidate is None:
        raise InputError(f"--pick: {unknown('candidate', name, [one.name for one in found.candidates])}")
    if out.exists():
        raise InputError(f"--out {out}: exists; choose another file, or remove it first")
    text, notes = _changed(found, candidate, read_text(recipe, MOST_BYTES, "utf-8-sig"), device or found.device.name)
    for place, value in moved(read_mapping(recipe), found.bound.base, out.parent):
        text = set_value(text, place, value)
    write_text(out, text)
    try:
        read_recipe(out)
        bind_recipe(out)
    except InputError as error:
        out.unlink()
        raise InputError(*error.problems, f"no recipe was written; change {recipe} by hand") from None
    status = found.result(candidate).status
    if status != "measured":
        notes.append(f"{name} has no valid measurement on {found.device.name}")
    elif found.kept(candidate) is False:
        notes.append(f"{name} does not keep the budgets on {found.device.name}")
    return Picked(out, name, tuple(notes))


def _changed(found: Shortlist, candidate: Candidate, text: str, device: str) -> tuple[str, list[str]]:
    """The recipe's text with the candidate in it, and notes."""
    recipe, notes = found.bound.recipe, []
    student = recipe.student
    if student.model != candidate.model:
        text = set_value(text, ("student", "model"), candidate.model)
        if student.weights:
            text = remove_key(text, ("student", "weights"))
            notes.append(f"student.weights ({student.weights}) is left out: it is of another model")
        if "family" in _given(found) and student.family != families.meant(candidate.model, None):
            text = remove_key(text, ("student", "family"))
    if student.head is not None and student.head not in candidate.facts.branches:
        text = remove_key(text, ("student", "head"))
        notes.append(f"student.head ({student.head}) is left out: {candidate.model} has no such branch")
    if recipe.imgsz_px != candidate.size_px:
        text = set_value(text, ("train", "imgsz"), candidate.size_px)
    if candidate.target.name not in [one.name for one in found.bound.targets]:
        asked = [one for one in recipe.search.students.targets if Path(one).stem == candidate.target.name]
        text = append_item(text, ("export",), (asked or [candidate.target.name])[0])
    if found.device.name not in [one.name for one in found.bound.devices]:
        text = append_item(text, ("devices",), device)
    return text, notes


def _given(found: Shortlist) -> dict[str, Any]:
    """The student as it stands in the file."""
    given = read_mapping(found.bound.path).get("student")
    return given if isinstance(given, dict) else {}
