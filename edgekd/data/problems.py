"""What is wrong with a data set: counted per split and kind, with examples, and either fatal or left out.

An image whose labels are faulty is left out with them: without the object it would be taught as background, and
detecting it would count as a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgekd.errors import InputError

OnProblem = Literal["error", "clip", "skip"]
MAX_EXAMPLES = 5

# Of the images
MISSING_IMAGE = "missing image"
UNREADABLE_IMAGE = "unreadable image"
SMALL_IMAGE = "image with a side under 10 px"
WRONG_CHANNELS = "image with another number of channels"
SIZE_DIFFERS = "image of another size than its record says"
DUPLICATE_IMAGE_ID = "duplicate image id"
DUPLICATE_FILE = "duplicate file name"
TWO_RECORDS = "two image records of one file"
BROKEN_IMAGE = "broken image record"
DARK_IMAGE = "16-bit image that uses its lowest bits alone"
# Of the labels
UNREADABLE_LABELS = "unreadable label file"
WRONG_COLUMNS = "label line with a wrong number of columns"
KEY_POINTS = "label line with key points that the data.yaml does not state"
NOT_A_NUMBER = "value that is not a finite number"
NEGATIVE_SIZE = "box of negative size"
NO_AREA = "box without area"
STICKS_OUT = "box that sticks out of its image"
OUTSIDE = "box mostly outside its image"
PIXELS = "label in pixels, where YOLO has shares of 1"
SHARES = "box in shares of 1, where COCO has pixels"
CLASS_RANGE = "class id out of range"
BROKEN_ANNOTATION = "broken annotation record"
DUPLICATE_ANNOTATION_ID = "duplicate annotation id"
UNKNOWN_IMAGE = "annotation of an unknown image"
# Of the set as a whole
REPEATED_BOX = "box given twice"
REPEATED_ANNOTATION = "annotation given twice"
COPIED_IMAGE = "image with the content of another"
SHARED_IMAGE = "image that is in train as well"
UNLISTED_IMAGE = "image that the annotations do not list"
LABELS_ALONE = "label file without an image"
UNREAD_FILE = "file of a suffix that is not read"

NOTES = frozenset({  # never fatal
    REPEATED_BOX, REPEATED_ANNOTATION, COPIED_IMAGE, SHARED_IMAGE, UNLISTED_IMAGE, LABELS_ALONE, UNREAD_FILE,
})  # fmt: skip

_IMAGE_LEFT_OUT = "the image is left out"
_HANDLED = {
    DUPLICATE_FILE: "read once",
    NO_AREA: "the box is left out: it covers no pixel",
    STICKS_OUT: "clipped to the image",
    UNKNOWN_IMAGE: "the annotation is left out",
    REPEATED_BOX: "read once",
    REPEATED_ANNOTATION: "kept: COCO's AP counts both",
    COPIED_IMAGE: "kept",
    SHARED_IMAGE: "kept",
    UNLISTED_IMAGE: "not used",
    LABELS_ALONE: "not used",
    UNREAD_FILE: "not used",
}
_REMEDIES = {
    DARK_IMAGE: "rescale the values to 8 bits (of 16 bits the high byte is kept, so they are nearly black)",
    KEY_POINTS: "state kpt_shape in the data.yaml",
    PIXELS: "divide x and width by the image's width, y and height by its height",
    SHARES: "multiply x and width by the image's width, y and height by its height",
}


@dataclass(frozen=True)
class Problem:
    """One kind of fault in one split: how often, and up to five examples of where."""

    split: str
    kind: str
    count: int
    examples: tuple[str, ...]

    @property
    def handled(self) -> str:
        """What was done about it where it was not fatal."""
        return _HANDLED.get(self.kind, _IMAGE_LEFT_OUT)

    def as_json(self) -> dict[str, Any]:
        """For RUN/data/split.json."""
        return {
            "split": self.split,
            "kind": self.kind,
            "count": self.count,
            "examples": list(self.examples),
            "handled": self.handled,
        }

    def __str__(self) -> str:
        return f"{self.split}: {self.kind}: {self.count} found, e.g. {', '.join(self.examples)}"


class ProblemLog:
    """Collects the faults of one data set, in the order in which their kinds first appear.

    Args:
        sources: split -> the file that the user named, for the messages.
    """

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.sources = dict(sources)
        self.warnings: list[str] = []
        self._found: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}

    def add(self, split: str, kind: str, *examples: str, count: int = 1) -> None:
        """Count faults; an example says where it is and what was found."""
        before, known = self._found.get((split, kind), (0, ()))
        self._found[split, kind] = (before + count, (*known, *examples[: MAX_EXAMPLES - len(known)]))

    def warn(self, sentence: str) -> None:
        """Note what is no fault of a single image or label."""
        self.warnings.append(sentence)

    def of_split(self, split: str) -> tuple[Problem, ...]:
        """What was found in one split so far."""
        return tuple(problem for problem in self._problems() if problem.split == split)

    def drop(self, split: str) -> tuple[Problem, ...]:
        """Forget what was found in a split that is not used; returns it."""
        dropped = self.of_split(split)
        self._found = {where: found for where, found in self._found.items() if where[0] != split}
        return dropped

    def settle(self, on_problem: OnProblem) -> tuple[Problem, ...]:
        """All faults as records, if they may be mended or left out.

        Raises:
            InputError: something was found that `on_problem` does not allow; one line per split and kind.
        """
        problems = tuple(self._problems())
        allowed = {"error": NOTES, "clip": NOTES | {STICKS_OUT}}
        fatal = [problem for problem in problems if on_problem != "skip" and problem.kind not in allowed[on_problem]]
        if fatal:
            raise InputError(*(self._line(problem) for problem in fatal))
        return problems

    def _problems(self) -> Iterator[Problem]:
        for where, (count, examples) in self._found.items():
            yield Problem(*where, count, examples)

    def _line(self, problem: Problem) -> str:
        remedy = _REMEDIES.get(problem.kind, "mend the data")
        way = "clip" if problem.kind == STICKS_OUT else "skip"
        return f"{self.sources[problem.split]}: {problem}; {remedy} or set data.on_problem: {way}"
