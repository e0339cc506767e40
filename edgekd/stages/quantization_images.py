"""What quantising steps need beside the model: train images to calibrate on, and others to measure their cost on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from edgekd.agent import __main__ as agent
from edgekd.agent import predict
from edgekd.agent.pipeline import Pipeline
from edgekd.agent.protocol import AgentError, UsageError
from edgekd.cores import own_cores
from edgekd.data import pack
from edgekd.data.calibration import accuracy_split, calibration_split
from edgekd.data.pack import Pack
from edgekd.detectors.contract import Detector
from edgekd.errors import Bug, EnvironmentFault, InputError
from edgekd.export.contract import Artifact, Material, TargetSpec, step
from edgekd.export.int8_options import Int8Options
from edgekd.export.litert_from_onnx import LitertOptions
from edgekd.measure.average_precision import evaluate
from edgekd.progress import progress
from edgekd.stages.accuracy import detect_in_torch
from edgekd.stages.context import Context
from edgekd.types import ByteArray, Detections, Split


def material_for(context: Context, student: Detector, size_px: tuple[int, int]) -> Material:
    """The material of one target. Packs are made, and the student is measured, when a step first asks for it.

    Where the student is not trained, nothing is to be lost: every AP is 0.

    Args:
        student: in float, what an artifact's AP is held against.
        size_px: (height, width) that the artifact is measured at.
    """
    measured = _Measured(context, student, size_px)
    if not context.trained:
        return Material(measured.calibration, lambda _: 0.0, lambda: 0.0)
    return Material(measured.calibration, measured.artifact_ap, lambda: measured.student_ap)


class _Measured:
    """Images of the train split, and AP on those that calibration does not see."""

    def __init__(self, context: Context, student: Detector, size_px: tuple[int, int]) -> None:
        self._context, self._student, self._size_px = context, student, size_px

    def calibration(self, count: int, size_px: tuple[int, int]) -> ByteArray:
        """(count, H, W, C) uint8, letterboxed."""
        chosen = calibration_split(self._context.data.splits["train"], count)
        return np.asarray(self._packed(chosen, size_px).arrays())

    @cached_property
    def student_ap(self) -> float:
        """Of the float student, in torch."""
        found = detect_in_torch(
            self._student, self._context.pair.head, pack=self._pack, columns=None,
            settings=self._context.bound.recipe.validate_, title="the float student on train images", alone=True,
        )  # fmt: skip
        return self._ap(found)

    def artifact_ap(self, artifact: Artifact) -> float:
        """Of an artifact, by the agent's code in this process."""
        recipe = self._context.bound.recipe
        settings, threads = recipe.validate_, recipe.threads or own_cores()
        command = [
            "predict", "--artifact", artifact.folder, "--pack", self._pack.npy_path, "--conf", settings.conf,
            "--iou", settings.iou, "--max-det", settings.max_det, "--threads", threads,
        ]  # fmt: skip
        try:
            lane = Pipeline(agent.parser().parse_args([str(word) for word in command]))
        except UsageError as error:
            raise Bug(f"{artifact.sidecar.target}: {error.message}") from error
        except AgentError as error:
            raise EnvironmentFault(f"{artifact.sidecar.target}: {error.message}") from error
        found: list[Detections] = []
        with progress(f"{artifact.sidecar.target} on train images", len(self._split.images)) as advance:
            for start in range(0, len(self._split.images), lane.batch):
                for decoded in predict.detect_batch(lane, start):
                    boxes_px = self._pack.restore(len(found), decoded.boxes_px)
                    found.append(Detections(boxes_px, decoded.scores, decoded.class_ids))
                advance(lane.batch)
        return self._ap(found)

    @cached_property
    def _split(self) -> Split:
        return accuracy_split(self._context.data.splits["train"])

    @cached_property
    def _pack(self) -> Pack:
        return self._packed(self._split, self._size_px)

    def _packed(self, split: Split, size_px: tuple[int, int]) -> Pack:
        return pack.build(split, size_px, self._context.data.channels, self._context.path / "data" / "packs")

    def _ap(self, found: Sequence[Detections]) -> float:
        by_image = {truth.image_id: one for truth, one in zip(self._split.images, found, strict=True)}
        return evaluate(self._split.images, by_image, self._context.data.class_names).ap


def check_images(context: Context) -> None:
    """Refuse, before anything is trained, a train split that is too small for a target that quantises.

    Raises:
        InputError: one line per target.
    """
    problems = []
    for target in context.bound.targets:
        for name, options in int8_options(target):
            try:
                accuracy_split(context.data.splits["train"])
                calibration_split(context.data.splits["train"], options.calibration_images)
            except InputError as error:
                problems += [f"{target.name}: options.{name}: {problem}" for problem in error.problems]
    if problems:
        raise InputError(*problems)


def int8_options(target: TargetSpec) -> Iterator[tuple[str, Int8Options | LitertOptions]]:
    """Every step of a target that quantises, and its options."""
    for name in target.steps:
        options = step(name).options_type.model_validate(target.options.get(name, {}))
        if isinstance(options, Int8Options) or (isinstance(options, LitertOptions) and target.precision == "int8"):
            yield name, options
