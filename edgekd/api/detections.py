"""Detections of one image as arrays, named as in `supervision`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.api import html
from edgekd.errors import EnvironmentFault
from edgekd.types import ByteArray, FloatArray, IntArray

_MOST_ROWS = 20
_COLOURS = np.array(
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]], np.uint8
)  # of Okabe and Ito, which the colour-blind tell apart


@dataclass(frozen=True)
class Detections:
    """What was found in an image, or what is labelled there, best first.

    Attributes:
        xyxy: (N, 4) float32, x1 y1 x2 y2 in pixels of the image.
        class_id: (N,) int64, index into `class_names`.
        confidence: (N,) float32 in 0..1; None of labels.
        class_names: of the data set.
        image: (h, w, C) uint8, where it is known; what notebooks show.
    """

    xyxy: FloatArray
    class_id: IntArray
    confidence: FloatArray | None = None
    class_names: tuple[str, ...] = ()
    image: ByteArray | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, which: npt.ArrayLike | slice) -> Detections:
        """Some of them: by a mask, by numbers or by a slice, as in `found[found.confidence > 0.5]`."""
        chosen: Any = which if isinstance(which, slice) else np.atleast_1d(np.asarray(which))
        confidence = None if self.confidence is None else self.confidence[chosen]
        return replace(self, xyxy=self.xyxy[chosen], class_id=self.class_id[chosen], confidence=confidence)

    @property
    def names(self) -> tuple[str, ...]:
        """The class of each."""
        known = len(self.class_names)
        return tuple(self.class_names[k] if 0 <= k < known else f"class {k}" for k in self.class_id.tolist())

    def to_supervision(self) -> Any:
        """As `supervision.Detections`, with `class_name` in its data.

        Raises:
            EnvironmentFault: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise EnvironmentFault("to_supervision: needs supervision; pip install supervision") from error
        return supervision.Detections(
            xyxy=self.xyxy, confidence=self.confidence, class_id=self.class_id,
            data={"class_name": np.array(self.names, dtype=str)},
        )  # fmt: skip

    def as_rows(self) -> list[dict[str, Any]]:
        """A mapping of each: class, confidence (where it has one), x1, y1, x2, y2."""
        rows = []
        for index, (name, box) in enumerate(zip(self.names, self.xyxy.tolist(), strict=True)):
            sure = {} if self.confidence is None else {"confidence": float(self.confidence[index])}
            rows.append({"class": name, **sure, **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))})
        return rows

    def drawn(self) -> ByteArray:
        """The image with the boxes on it, (h, w, 3) uint8.

        Raises:
            ValueError: the image is not known.
        """
        if self.image is None:
            raise ValueError("drawn: the image of these detections is not known; give it by dataclasses.replace")
        canvas = np.repeat(self.image, 3, 2) if self.image.shape[2] == 1 else self.image[..., :3].copy()
        high, wide = canvas.shape[:2]
        line = max(1, round(max(high, wide) / 300))
        limits = np.array([wide - line, high - line, wide - line, high - line])
        corners = np.clip(np.nan_to_num(self.xyxy), 0, limits).astype(int)
        for (x1, y1, x2, y2), k in zip(corners, self.class_id, strict=True):
            colour = _COLOURS[int(k) % len(_COLOURS)]
            for edge in (y1, y2):
                canvas[edge : edge + line, x1 : x2 + line] = colour
            for edge in (x1, x2):
                canvas[y1 : y2 + line, edge : edge + line] = colour
        return canvas

    def _repr_html_(self) -> str:
        shown = "" if self.image is None else html.picture(self.drawn())
        more = f"<p>and {len(self) - _MOST_ROWS} more</p>" if len(self) > _MOST_ROWS else ""
        rows = self[:_MOST_ROWS].as_rows()
        return f"<div>{shown}{html.table(rows)}{more}{'' if rows else '<p>nothing found</p>'}</div>"


def of_line(line: Mapping[str, Any], class_names: tuple[str, ...]) -> Detections:
    """From a line of a `.detections.jsonl` file, or an image of `ground_truth-val.json`."""
    scores = line.get("scores")
    return Detections(
        np.asarray(line["boxes_px"], np.float32).reshape(-1, 4),
        np.asarray(line["class_ids"], np.int64),
        None if scores is None else np.asarray(scores, np.float32),
        class_names,
    )
