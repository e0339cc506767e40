"""Label files of the YOLO layout: lines to boxes, and what lines of more than five columns are.

A line is `class x_center y_center width height` or a polygon `class x1 y1 x2 y2 x3 y3 ...`, which becomes its box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekd.data import problems
from edgekd.data.data_yaml import DataYaml
from edgekd.data.labels import Corners, RawBox, finite, relative
from edgekd.data.problems import MAX_EXAMPLES, ProblemLog
from edgekd.files import read_text

_MOST_BYTES = 16_000_000
_ENOUGH_LINES = 10  # so many lines of one length that all read as a box with points inside it are no polygons
_LARGEST_SHARE = 2.0  # a larger value is a pixel's
_ROUNDING = 1e-3  # of shares of the image
_ODDITIES = {6: "a score or an angle behind the box?", 10: "corners of a rotated box before the class?"}


def label_path(image: Path) -> Path:
    """Where the labels of `image` are: the last folder `images` becomes `labels`, the suffix `.txt`."""
    parts = list(image.parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


@dataclass
class LabelFile:
    """What was found beside one image.

    Attributes:
        exists: whether there is a file.
        faulty: an object of it is not known.
        outlined: a box came from more than four numbers.
    """

    boxes: list[RawBox] = field(default_factory=list)
    exists: bool = True
    faulty: bool = False
    outlined: bool = False


class LabelReader:
    """Reads the label files of one split; faults go to `log`."""

    def __init__(self, split: str, data: DataYaml, log: ProblemLog) -> None:
        self._split, self._data, self._log = split, data, log
        self._folder = data.path.parent.resolve()
        self._outlines = _Outlines()
        self._plain = 0  # lines of five columns

    def read(self, image: Path) -> LabelFile:
        """The labels of one image."""
        path = label_path(image)
        try:
            text = read_text(path, _MOST_BYTES, "utf-8-sig")
        except FileNotFoundError:
            return LabelFile(exists=False)
        except (OSError, UnicodeDecodeError) as error:
            self._add(problems.UNREADABLE_LABELS, f"{self.shown(path)} ({type(error).__name__})")
            return LabelFile(faulty=True)
        found = LabelFile()
        seen: set[tuple[float, ...]] = set()
        for number, line in enumerate(text.splitlines(), start=1):
            columns = line.split()
            if columns:
                self._read_line(columns, f"{self.shown(path)}:{number}", found, seen)
        return found

    def have_key_points(self) -> bool:
        """Whether the outlines that were read are no polygons, but boxes with key points; said to the log."""
        outlines, declared = self._outlines, self._data.keypoint_columns
        if declared:
            return False
        if outlines.key_points:
            self._add(problems.KEY_POINTS, *outlines.examples, count=outlines.count)
            return True
        if outlines.turned and not self._plain:
            self._log.warn(
                f"{self._split}: all {outlines.count} labels have four corners, as rotated boxes have; the upright box "
                "around each is taught"
            )
        elif outlines.may_be_key_points:
            self._log.warn(
                f"{self._split}: {outlines.examples[0]}: read as polygons; if these are key points, state kpt_shape"
            )
        return False

    def shown(self, path: Path) -> str:
        """Short for messages: relative to the data.yaml where that is possible."""
        return relative(path, self._folder) if path.is_relative_to(self._folder) else str(path)

    def _read_line(self, columns: Sequence[str], where: str, found: LabelFile, seen: set[tuple[float, ...]]) -> None:
        fault, detail, values = self._values(columns)
        if fault:
            self._add(fault, f"{where} ({detail})")
            found.faulty = True
        elif values in seen:  # also where 0.5 is written 0.50
            self._add(problems.REPEATED_BOX, where)
        else:
            seen.add(values)
            class_id, shape = int(values[0]), values[1:]
            if len(shape) > 4:
                found.outlined = True
                self._outlines.add(where, shape)
            self._plain += len(shape) == 4
            found.boxes.append(RawBox(where, class_id, _corners(shape), is_share=True))

    def _values(self, columns: Sequence[str]) -> tuple[str, str, tuple[float, ...]]:
        """(fault or "", what was found, class id and shape)."""
        declared = self._data.keypoint_columns
        count = len(columns)
        if count != 5 and (count != 5 + declared if declared else count < 7 or count % 2 == 0):
            return problems.WRONG_COLUMNS, self._odd_columns(columns), ()
        numbers = [finite(column) for column in columns]
        values = tuple(number for number in numbers if number is not None)
        if len(values) != count:
            return problems.NOT_A_NUMBER, columns[numbers.index(None)], ()
        if values[0] not in range(len(self._data.class_names)):
            return problems.CLASS_RANGE, f"class {columns[0]}, allowed 0..{len(self._data.class_names) - 1}", ()
        if declared:
            values = values[:5]
        if max(values[1:]) > _LARGEST_SHARE:
            return problems.PIXELS, " ".join(f"{value:g}" for value in values[1:5]), ()
        if len(values) == 5 and min(values[3:]) < 0:
            return problems.NEGATIVE_SIZE, f"{values[3]:g} x {values[4]:g}", ()
        return "", "", values

    def _odd_columns(self, columns: Sequence[str]) -> str:
        text, declared = f"{len(columns)} columns", self._data.keypoint_columns
        if declared:
            return f"{text}; kpt_shape allows 5 or {5 + declared}"
        shape = [number for column in columns[1:] if (number := finite(column)) is not None]
        if len(shape) == len(columns) - 1 and _has_flags(shape):
            return f"{text}; a box and {_kpt_shape(shape, 3)}"
        oddity = _ODDITIES.get(len(columns))
        return f"{text}; {oddity}" if oddity else text

    def _add(self, kind: str, *examples: str, count: int = 1) -> None:
        self._log.add(self._split, kind, *examples, count=count)


@dataclass
class _Outlines:
    """Evidence of all lines with more than four numbers behind the class: polygons differ in their length."""

    count: int = 0
    lengths: set[int] = field(default_factory=set)
    flagged: bool = True
    enclosed: bool = True
    parallel: bool = True
    examples: list[str] = field(default_factory=list)

    def add(self, where: str, shape: Sequence[float]) -> None:
        self.count += 1
        self.lengths.add(len(shape))
        if len(self.lengths) > 1:
            return
        self.flagged &= _has_flags(shape)
        self.enclosed &= _holds_points(shape)
        self.parallel &= _is_parallelogram(shape)
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(f"{where} (a box and {_kpt_shape(shape, 3 if self.flagged else 2)})")

    @property
    def key_points(self) -> bool:
        enough = self.may_be_key_points and self.count >= _ENOUGH_LINES
        return len(self.lengths) == 1 and self.count > 0 and (self.flagged or enough)

    @property
    def may_be_key_points(self) -> bool:
        return len(self.lengths) == 1 and self.enclosed and not self.parallel and min(self.lengths) > 6

    @property
    def turned(self) -> bool:
        return self.lengths == {8}


def _kpt_shape(shape: Sequence[float], dimensions: int) -> str:
    points = (len(shape) - 4) // dimensions
    return f"{points} key point{'s' * (points > 1)}, kpt_shape: [{points}, {dimensions}]"


def _has_flags(shape: Sequence[float]) -> bool:
    """A box in the image, then x, y and visibility (0, 1 or 2) per point."""
    points = shape[4:]
    return bool(points) and len(points) % 3 == 0 and set(points[2::3]) <= {0, 1, 2} and _is_box(shape)


def _holds_points(shape: Sequence[float]) -> bool:
    """A box in the image, then x and y per point: inside the box, or 0 0 where it is not known."""
    if not _is_box(shape):
        return False
    x, y, wide, tall = shape[:4]
    return all(
        (abs(px - x) <= wide / 2 + _ROUNDING and abs(py - y) <= tall / 2 + _ROUNDING) or (px == 0 and py == 0)
        for px, py in zip(shape[4::2], shape[5::2], strict=True)
    )


def _is_box(shape: Sequence[float]) -> bool:
    x, y, wide, tall = shape[:4]
    return (
        wide > 0
        and tall > 0
        and all(
            -_ROUNDING <= edge <= 1 + _ROUNDING for edge in (x - wide / 2, x + wide / 2, y - tall / 2, y + tall / 2)
        )
    )


def _is_parallelogram(shape: Sequence[float]) -> bool:
    return len(shape) == 8 and all(
        abs(shape[axis] + shape[4 + axis] - shape[2 + axis] - shape[6 + axis]) <= _ROUNDING for axis in (0, 1)
    )


def _corners(shape: Sequence[float]) -> Corners:
    if len(shape) == 4:
        x, y, wide, tall = shape
        return x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2
    return min(shape[0::2]), min(shape[1::2]), max(shape[0::2]), max(shape[1::2])
