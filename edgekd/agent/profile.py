# SPDX-License-Identifier: Apache-2.0
"""`profile`: raw, ordered latency samples of the whole way from a camera frame to detections."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Dict, List, Optional

import numpy as np

from .clock import now_ns, sample, warm_up
from .pipeline import Pipeline, announce_end
from .preprocess import Letterbox, best_resize, frame_from_image
from .protocol import Writer, heartbeats
from .quiet import wait_for_quiet
from .telemetry import Contention, Sampler

if TYPE_CHECKING:
    import numpy.typing as npt

_FRAMES = 16


def profile(arguments: Namespace, writer: Writer) -> None:
    """Write warm-up, `samples` events (ns, in order, none left out), peak memory and telemetry."""
    wait_for_quiet(writer, arguments.quiet_seconds)
    with heartbeats(writer, "loading the model"):
        pipeline = Pipeline(arguments)
    loop = Loop(pipeline, arguments)
    pipeline.announce(
        writer,
        images=len(loop.frames),
        preprocess={"resize": loop.resize_name, "frame_px": list(loop.frame_px), "batch": pipeline.batch},
        telemetry_every_seconds=arguments.telemetry_seconds or None,
    )
    loop.prepare()
    pipeline.announce_load(writer)
    warmup = warm_up(
        lambda: loop.step()["end_to_end_ns"],
        arguments.warmup_seconds,
        arguments.warmup_cap_seconds,
        lambda: writer.emit("heartbeat"),
    )
    writer.emit("warmup", **warmup)
    with Sampler(arguments.telemetry_seconds, clock=now_ns) as sampler:
        contention = Contention()

        def on_chunk(chunk: Dict[str, List[int]]) -> None:
            writer.emit("samples", **chunk)
            emit_telemetry(writer, sampler)
            writer.emit("contention", **contention.take())

        sample(loop.step, arguments.min_seconds, arguments.min_count, on_chunk)
    emit_telemetry(writer, sampler)
    announce_end(writer)


def emit_telemetry(writer: Writer, sampler: Sampler) -> None:
    """Write what was read since the last time."""
    columns = sampler.take()
    if columns:
        writer.emit("telemetry", samples=columns)


class Loop:
    """The timed loop: single stream, real images in rotation."""

    def __init__(
        self, pipeline: Pipeline, arguments: Namespace, frames: Optional[List[npt.NDArray[np.uint8]]] = None
    ) -> None:
        self._pipeline = pipeline
        self._arguments = arguments
        self.resize_name, resize = best_resize()
        self.frame_px = (int(arguments.frame[0]), int(arguments.frame[1]))
        _, height, width, channels = pipeline.images.shape
        size_px = (height, width)
        self._letterbox = Letterbox(self.frame_px, size_px, pipeline.artifact.pad_value, resize)
        self._letterboxed = np.empty((pipeline.batch, *size_px, channels), dtype=np.uint8)
        if pipeline.takes_frames:
            self._letterboxed = pipeline.buffer  # nothing is left to be done after the letterbox
        self.frames = frames or [frame_from_image(image, self.frame_px) for image in self._camera_images()]
        self._next = 0

    def fork(self) -> Loop:
        """One that works on the same model at the same time, in another thread."""
        return Loop(self._pipeline.fork(), self._arguments, self.frames)

    def prepare(self) -> None:
        """From the next frames to the model's input."""
        for slot in self._letterboxed:
            self._letterbox(self.frames[self._next], slot)
            self._next = (self._next + 1) % len(self.frames)
        if not self._pipeline.takes_frames:
            self._pipeline.put(self._letterboxed)

    def _camera_images(self) -> npt.NDArray[np.uint8]:
        """Some images, in the channel order of a camera whose frames the model takes as they are."""
        images = self._pipeline.images[:_FRAMES]
        turned = self._pipeline.takes_frames and self._pipeline.artifact.channel_order == "BGR"
        return images[..., ::-1] if turned else images

    def step(self) -> Dict[str, int]:
        """One pass, in ns: pre-processing, inference, post-processing, and all of it."""
        started = now_ns()
        self.prepare()
        prepared = now_ns()
        outputs = self._pipeline.infer()
        inferred = now_ns()
        self._pipeline.decode(outputs, self._pipeline.batch)
        ended = now_ns()
        return {
            "pre_ns": prepared - started,
            "inference_ns": inferred - prepared,
            "post_ns": ended - inferred,
            "end_to_end_ns": ended - started,
        }
