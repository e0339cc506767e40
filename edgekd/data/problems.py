"""What is wrong with a data set: counted per split and kind, with examples, and either fatal or skipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgekd.errors import InputError

OnProblem = Literal["error", "skip"]
MAX_EXAMPLES = 5

# Of the images
MISSING_IMAGE = "missing image"
UNREADABLE_IMAGE = "unreadable image"
SMALL_IMAGE = "image with a side under 10 px"
WRONG_CHANNELS = "image with another number of channels"
SIZE_DIFFERS = "image of another size than its record says"
DUPLICATE_IMAGE_ID = "duplicate image id"
DUPLICATE_FILE = "duplicate file name"
BROKEN_IMAGE = "broken image record"
# Of the labels
UNREADABLE_LABELS = "unreadable label file"
WRONG_COLUMNS = "label line with a wrong number of columns"
NOT_A_NUMBER = "value that is not a finite number"
NEGATIVE_SIZE = "box of negative size"
NO_AREA = "box without area"
OUTSIDE = "box outside the image"
CLASS_RANGE = "class id out of range"
BROKEN_ANNOTATION = "broken annotation record"
DUPLICATE_ANNOTATION_ID = "duplicate annotation id"
UNKNOWN_IMAGE = "annotation of an unknown image"
REPEATED_LINE = "repeated label line"

NOTES = frozenset({REPEATED_LINE})  # dropped and recorded, never fatal: a repeated line is one object all the same


@dataclass(frozen=True)
class Problem:
    """One kind of fault in one split: how often, and up to five examples of where."""

    split: str
    kind: str
    count: int
    examples: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For RUN/data/split.json."""
        return {"split": self.split, "kind": self.kind, "count": self.count, "examples": list(self.examples)}


class ProblemLog:
    """Collects the faults of one data set, in the order in which their kinds first appear.

    Args:
        sources: split -> the file that the user named, for the messages.
    """

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.sources = dict(sources)
        self._found: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}

    def add(self, split: str, kind: str, example: str) -> None:
        """Count one fault; `example` says where it is and what was found."""
        count, examples = self._found.get((split, kind), (0, ()))
        if count < MAX_EXAMPLES:
            examples = (*examples, example)
        self._found[split, kind] = (count + 1, examples)

    def settle(self, on_problem: OnProblem) -> tuple[Problem, ...]:
        """All faults as records, if they may be skipped.

        Raises:
            InputError: `on_problem` is "error" and something other than a note was found; one line per split and kind.
        """
        problems = tuple(Problem(*where, count, examples) for where, (count, examples) in self._found.items())
        fatal = [problem for problem in problems if problem.kind not in NOTES]
        if fatal and on_problem == "error":
            raise InputError(*(self._line(problem) for problem in fatal))
        return problems

    def _line(self, problem: Problem) -> str:
        return (
            f"{self.sources[problem.split]}: {problem.split}: {problem.kind}: {problem.count} found, e.g. "
            f"{', '.join(problem.examples)}; mend the data or set data.on_problem: skip"
        )
