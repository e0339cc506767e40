# SPDX-License-Identifier: Apache-2.0
"""`profile`: raw, ordered latency samples of the whole way from a camera frame to detections."""

from __future__ import annotations

from argparse import Namespace
from typing import Dict

import numpy as np

from .clock import now_ns, sample, warm_up
from .pipeline import Pipeline, announce_end
from .preprocess import Letterbox, best_resize, frame_from_image, normalise
from .protocol import Writer

_FRAMES = 16


def profile(arguments: Namespace, writer: Writer) -> None:
    """Write warm-up, `samples` events (ns, in order, none left out), peak memory and telemetry."""
    pipeline = Pipeline(arguments)
    loop = Loop(pipeline, arguments)
    pipeline.announce(
        writer,
        images=len(loop.frames),
        preprocess={"resize": loop.resize_name, "frame_px": list(loop.frame_px), "batch": pipeline.batch},
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
    sample(loop.step, arguments.min_seconds, arguments.min_count, lambda chunk: writer.emit("samples", **chunk))
    announce_end(writer)


class Loop:
    """The timed loop: single stream, real images in rotation."""

    def __init__(self, pipeline: Pipeline, arguments: Namespace) -> None:
        self._pipeline = pipeline
        self.resize_name, resize = best_resize()
        self.frame_px = (int(arguments.frame[0]), int(arguments.frame[1]))
        size_px = (pipeline.buffer.shape[2], pipeline.buffer.shape[3])
        self._letterbox = Letterbox(self.frame_px, size_px, pipeline.artifact.pad_value, resize)
        self._letterboxed = np.empty((pipeline.batch, *size_px, pipeline.buffer.shape[1]), dtype=np.uint8)
        self.frames = [frame_from_image(image, self.frame_px) for image in pipeline.images[:_FRAMES]]
        self._next = 0

    def prepare(self) -> None:
        """From the next frames to the model's input."""
        for slot in self._letterboxed:
            self._letterbox(self.frames[self._next], slot)
            self._next = (self._next + 1) % len(self.frames)
        normalise(self._letterboxed, self._pipeline.artifact.scale, self._pipeline.buffer)

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
