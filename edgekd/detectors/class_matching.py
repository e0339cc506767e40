"""Which class of a teacher is which class of the data: by name, and by what the recipe says under `teacher.classes`.

Three rules, the strictest first: the same name; the same but for case, blanks, `_` and `-`; another spelling of one of
the classes that COCO and VOC both have. A rule decides only where its key stands once on each side, and no column
serves two classes unless the recipe says so. What remains open is told, never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgekd.errors import InputError, unknown

How = Literal["exact", "folded", "alias", "recipe", "ambiguous", "none"]

# Of the six classes that the two spell differently; potted plant and dining table differ in blanks alone.
_VOC_SPELLINGS = {"motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "tv": "tvmonitor"}


@dataclass(frozen=True)
class ClassMatch:
    """One class of the data, and the teacher's class for it.

    Attributes:
        name: of the data's class.
        column: of the teacher's logits; None where it does not know the class.
        teacher: the teacher's name of the class.
        how: which rule decided; `recipe` is `teacher.classes`. Without a column: `recipe` (set to null), `ambiguous`
            (see `note`) or `none`.
        note: what else there is to know.
    """

    name: str
    column: int | None
    teacher: str | None
    how: How
    note: str = ""


def match_classes(
    teacher: Sequence[str],
    data: Sequence[str],
    given: Mapping[str, int | str | None] | None = None,
    where: str = "teacher.classes",
) -> tuple[ClassMatch, ...]:
    """Match every class of the data.

    Args:
        teacher: names, index = column.
        data: names, index = class id; each stands once.
        given: class of the data -> name or column of the teacher's class, None if it does not know the class.
        where: place of `given` in messages.

    Raises:
        InputError: one line per entry of `given` that names nothing.
    """
    columns = _given(given or {}, teacher, data, where)
    hows: dict[str, How] = dict.fromkeys(columns, "recipe")
    for how, key in _RULES:
        taken = set(columns.values()) if how != "exact" else set()  # the recipe may let a column serve one more class
        for name, column in _once_on_both_sides(key, teacher, data).items():
            if name not in columns and column not in taken:
                columns[name], hows[name] = column, how
    likely = defaultdict(list)
    for column, name in enumerate(teacher):
        likely[_spelling(name)].append(column)
    found = [
        _match(name, columns[name], hows[name], teacher)
        if name in columns
        else _open(name, likely[_spelling(name)], teacher)
        for name in data
    ]
    return tuple(_told_of_sharing(found))


def unknown_warnings(matches: Sequence[ClassMatch], teacher: str) -> list[str]:
    """A line about the classes that the teacher does not know, and one per class for which it has several.

    Classes that the recipe sets to null are no surprise, and not told.
    """
    missing = [match.name for match in matches if match.how == "none"]
    lines = [
        f"class '{match.name}' is matched with none of teacher {teacher}: {match.note}; name one, or null, under "
        "teacher.classes"
        for match in matches
        if match.how == "ambiguous"
    ]
    if missing:
        count = f"{len(missing)} of {len(matches)} classes"
        lines.insert(0, f"teacher {teacher} does not know {count}, they are not taught: {', '.join(missing)}")
    return lines


def fold(name: str) -> str:
    """A name without case, blanks, `_` and `-`."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFC", name).casefold())


def _spelling(name: str) -> str:
    folded = fold(name)
    return _VOC_SPELLINGS.get(folded, folded)


_RULES: tuple[tuple[How, Callable[[str], str]], ...] = (("exact", str), ("folded", fold), ("alias", _spelling))


def _once_on_both_sides(key: Callable[[str], str], teacher: Sequence[str], data: Sequence[str]) -> dict[str, int]:
    """Class of the data -> column, where no other class of either side has the same key."""
    theirs, ours = Counter(map(key, teacher)), Counter(map(key, data))
    columns = {key(name): column for column, name in enumerate(teacher)}
    return {name: columns[key(name)] for name in data if key(name) and theirs[key(name)] == ours[key(name)] == 1}


def _given(
    given: Mapping[str, int | str | None], teacher: Sequence[str], data: Sequence[str], where: str
) -> dict[str, int | None]:
    """Columns of the classes that the recipe speaks of."""
    known, called = set(data), defaultdict(list)
    for column, other in enumerate(teacher):
        called[other].append(column)
    columns: dict[str, int | None] = {}
    problems: list[str] = []
    for name, value in given.items():
        place = f"{where}.{name}"
        if name not in known:
            problems.append(f"{place}: {unknown('class', name, data, before=len(problems))} of the data")
        if value is None or isinstance(value, int):
            columns[name] = value
            if value is not None and value not in range(len(teacher)):
                problems.append(f"{place}: must be one of the teacher's columns 0..{len(teacher) - 1}, got {value}")
        elif value in called:
            columns[name] = called[value][0]
            if len(called[value]) > 1:
                several = ", ".join(map(str, called[value]))
                problems.append(f"{place}: columns {several} of the teacher are all called '{value}'; give a number")
        else:
            problems.append(f"{place}: {unknown('class', value, teacher, before=len(problems))} of the teacher")
    if problems:
        raise InputError(*problems)
    return columns


def _match(name: str, column: int | None, how: How, teacher: Sequence[str]) -> ClassMatch:
    return ClassMatch(name, column, None if column is None else teacher[column], how)


def _open(name: str, likely: Sequence[int], teacher: Sequence[str]) -> ClassMatch:
    """A class that no rule decided."""
    if not likely or not fold(name):
        return ClassMatch(name, None, None, "none")
    candidates = ", ".join(f"'{teacher[column]}' (column {column})" for column in likely)
    return ClassMatch(name, None, None, "ambiguous", f"{candidates} could be meant, and not for this class alone")


def _told_of_sharing(matches: Sequence[ClassMatch]) -> list[ClassMatch]:
    """The matches, with a note where a column serves several classes."""
    users: dict[int | None, list[str]] = defaultdict(list)
    for match in matches:
        users[match.column].append(match.name)
    return [
        match
        if match.column is None or len(users[match.column]) == 1
        else replace(match, note=f"shared by {', '.join(users[match.column])}")
        for match in matches
    ]
