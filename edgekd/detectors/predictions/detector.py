"""A detector of which nothing is known but what it found in the images of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
from torch import Tensor, nn

from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.predictions.placing import rows_by_image
from edgekd.detectors.predictions.results import Results
from edgekd.detectors.spec import Branch, DetectionsHead, Part, Spec
from edgekd.errors import InputError
from edgekd.types import FloatArray, Split

FAMILY = "predictions"


class FileOfDetections:
    """See `Recorded`.

    Attributes:
        results: of the file.
        where: key of the recipe, for messages.
    """

    def __init__(self, results: Results, class_names: tuple[str, ...], channels: int, where: str) -> None:
        """`class_names`, `channels`: of the data; a file with categories has its own names."""
        self.results, self.where = results, where
        self.source = f"{where}: {results.path}"
        names = class_names if results.categories is None else tuple(results.categories.values())
        self.spec = Spec(FAMILY, results.path.name, names, channels, 1, (), DetectionsHead(), 0, traceable=False)
        self.module: nn.Module = nn.Module()

    def on(
        self, splits: Mapping[str, Split], numbered: Set[str], category_ids: Sequence[int]
    ) -> dict[str, list[FloatArray]]:
        """See `Recorded.on`; boxes are cut off at the image, and a file with categories asks for no ids."""
        file, own = self.results, self.results.categories
        classes = file.columns(category_ids if own is None else own, self.where)
        by_image = rows_by_image(file.images, splits, numbered, self.source)
        found: dict[str, list[FloatArray]] = {}
        for name, split in splits.items():
            found[name] = []
            for index, truth in enumerate(split.images):
                rows = np.array(by_image.get((name, index), ()), np.int64)
                rows = rows[np.argsort(-file.scores[rows], kind="stable")]
                boxes = file.boxes_px[rows]
                limits = np.array([truth.width_px, truth.height_px] * 2, np.float32)
                self._require_inside(boxes, limits, rows, truth.file_name)
                values = (np.clip(boxes, 0, limits), file.scores[rows, None], classes[rows, None])
                found[name].append(np.hstack(values).astype(np.float32))
        return found

    def _require_inside(self, boxes: FloatArray, limits: FloatArray, rows: np.ndarray, image: str) -> None:  # type: ignore[type-arg]
        outside = (boxes[:, :2] >= limits[:2]).any(1) | (boxes[:, 2:] <= 0).any(1)
        if outside.any():
            box = ", ".join(f"{value:g}" for value in boxes[outside][0])
            width, height = limits[:2].astype(int)
            raise InputError(
                f"{self.source}: a box from {box} lies outside of its image {image} of {width}x"
                f"{height} px; give boxes of the original images, in px, and of these images"
            )

    def with_taps(self, paths: Sequence[str]) -> FileOfDetections:
        """It has none."""
        return self

    def with_module(self, module: nn.Module) -> FileOfDetections:
        """See `Detector.with_module`; it has no network."""
        return self

    def frozen(self) -> FileOfDetections:
        """See `Detector.frozen`."""
        return self

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """None of the parts."""
        return {}

    def assemble(self, heads: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """See `Detector.assemble`."""
        return DetectorOutput(dict(taps))

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """See `Detector.head_tail`.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.spec.name}: head_tail: a file of detections has no layers")

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """See `Detector.export_module`.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.spec.name}: a file of detections cannot look at other images than its own")
