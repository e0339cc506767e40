# SPDX-License-Identifier: Apache-2.0
"""One loaded artifact with its images: what `predict` and `profile` share."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict

import numpy as np

from . import __version__, clock, telemetry
from .artifact import load, load_pack
from .protocol import AgentError, Writer
from .session import Session

SCHEMA = "edgekd.agent/1"


class Pipeline(Session):
    """A session, and the pack of images that it runs on.

    Attributes:
        images: (N, H, W, C) uint8.
    """

    def __init__(self, arguments: Namespace) -> None:
        self.arguments = arguments
        artifact = load(Path(arguments.artifact))
        self.images = load_pack(Path(arguments.pack), artifact)
        _, height, width, channels = self.images.shape
        super().__init__(
            artifact,
            (height, width),
            channels,
            arguments.threads,
            arguments.conf,
            arguments.iou,
            arguments.max_det,
            arguments.batch,
            arguments.provider,
            arguments.provider_options,
            getattr(arguments, "streams", 1),
        )

    def announce(self, writer: Writer, **more: Any) -> None:
        """Write the environment record."""
        writer.emit("environment", **self._environment(), **more, telemetry=telemetry.snapshot())

    def announce_load(self, writer: Writer) -> None:
        """Run once on what is in the buffer, and write how long loading and this first run took."""
        started = clock.now_ns()
        outputs = self.infer()
        first_ms = (clock.now_ns() - started) / 1e6
        for name, output in zip(self.runtime.output_names, outputs):
            if len(output) != self.batch:
                raise AgentError("artifact", f"output '{name}' is {output.shape} for a batch of {self.batch}")
        built = {} if self.runtime.build_ms is None else {"build_ms": self.runtime.build_ms}
        writer.emit("load", load_ms=self.load_ms, first_inference_ms=first_ms, **built)

    def _environment(self) -> Dict[str, Any]:
        runtime = self.runtime
        return {
            "schema": SCHEMA,
            "agent_version": __version__,
            "argv": sys.argv[1:],
            "numpy": np.__version__,
            "runtime": {
                "name": runtime.name,
                "version": runtime.version,
                "providers": runtime.providers,
                "options": runtime.options,
            },
            "threads": self.arguments.threads,
            "target": self.artifact.target,
            "model_sha256": self.artifact.model_sha256,
            "precision": self.artifact.precision,
            "input": {
                "shape": list(self.buffer.shape),
                "dtype": self.runtime.input_dtype,
                "layout": self.artifact.layout,
                "channel_order": self.artifact.channel_order,
            },
            "nms": "outside" if self.artifact.nms is None else "in_graph",
            "settings": dict(self.settings._asdict()),
            "platform": telemetry.facts(),
        }


def announce_end(writer: Writer) -> None:
    """Write what is asked for at the end of every run: peak memory and the state of the device."""
    writer.emit("memory", peak_memory_bytes=telemetry.peak_memory_bytes())
    writer.emit("telemetry", telemetry=telemetry.snapshot())
