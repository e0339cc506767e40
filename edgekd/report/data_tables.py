"""What the data set holds, as rows: for the terminal, the page and its Markdown twin, from `data/split.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Key of a split's record, and what it is called; a row in which every split has 0 or nothing is left out if optional.
_FACTS = (
    ("images", "images", False),
    ("left_out", "left out as faulty", True),
    ("backgrounds", "images without a box", False),
    ("without_labels", "images without a label file", True),
    ("objects", "objects", False),
    ("small", "small objects (area below 32² px)", False),
    ("medium", "medium objects (below 96² px)", False),
    ("large", "large objects", False),
    ("crowds", "crowd boxes", True),
    ("copies", "copies within the split", True),
    ("in_train", "images of train", True),
)


@dataclass(frozen=True)
class DataTables:
    """Rows of (title, a value per split); a value is None where the layout, or an older run, does not tell.

    Attributes:
        splits: the columns.
        facts: counts of images and objects.
        classes: objects per class.
    """

    splits: tuple[str, ...]
    facts: tuple[tuple[str, tuple[int | None, ...]], ...]
    classes: tuple[tuple[str, tuple[int | None, ...]], ...]


def data_tables(data: Mapping[str, Any] | None) -> DataTables | None:
    """The tables of a record of `data/split.json`; None without one."""
    splits = (data or {}).get("splits") or {}
    if not data or not splits:
        return None
    facts = []
    for key, title, optional in _FACTS:
        values = tuple(split.get(key) for split in splits.values())
        if any(values) if optional else any(value is not None for value in values):
            facts.append((title, values))
    per_class = [split.get("objects_per_class") or {} for split in splits.values()]
    classes = [
        (str(name), tuple(counts.get(name) for counts in per_class)) for name in data.get("class_names") or []
    ] if any(per_class) else []  # fmt: skip
    return DataTables(tuple(splits), tuple(facts), tuple(classes))
