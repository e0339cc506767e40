# SPDX-License-Identifier: Apache-2.0
"""One loaded artifact with its images: what `predict` and `profile` share."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

import numpy as np

from . import __version__, clock, postprocess, telemetry
from .artifact import Artifact, load, load_pack
from .protocol import AgentError, Writer
from .runtimes import Runtime, open_model

if TYPE_CHECKING:
    import numpy.typing as npt

SCHEMA = "edgekd.agent/1"


class Pipeline:
    """An artifact opened by its runtime, a pack of images, and the one input buffer that all inferences use.

    Attributes:
        images: (N, H, W, C) uint8.
        buffer: (B, C, H, W), the dtype that the model takes.
        load_ms: from the file to a model that is ready.
    """

    def __init__(self, arguments: Namespace) -> None:
        self.arguments = arguments
        self.artifact: Artifact = load(Path(arguments.artifact))
        self.images = load_pack(Path(arguments.pack), self.artifact)
        started = clock.now_ns()
        self.runtime: Runtime = open_model(
            self.artifact.runtime,
            self.artifact.model_path,
            arguments.threads,
            self.artifact.precision,
            arguments.provider,
            self.artifact.build,
        )
        self.load_ms = (clock.now_ns() - started) / 1e6
        _, height, width, channels = self.images.shape
        self.batch = self.artifact.batch(arguments.batch)
        self.buffer: npt.NDArray[Any] = np.zeros((self.batch, channels, height, width), self.runtime.input_dtype)
        self.settings = postprocess.Settings(arguments.conf, arguments.iou, arguments.max_det)
        self._decode = postprocess.decoder(self.artifact.decode, self.runtime.output_names)

    def infer(self) -> List[npt.NDArray[np.float32]]:
        """Outputs for what is in the buffer."""
        return self.runtime.run(self.buffer)

    def decode(self, outputs: List[npt.NDArray[np.float32]], images: int) -> List[postprocess.Decoded]:
        """Detections of the first `images` images of the batch."""
        named = dict(zip(self.runtime.output_names, outputs))
        return [self._decode(named, image, self.settings) for image in range(images)]

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
        writer.emit("load", load_ms=self.load_ms, first_inference_ms=first_ms)

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
            "input": {"shape": list(self.buffer.shape), "dtype": self.runtime.input_dtype},
            "settings": dict(self.settings._asdict()),
            "platform": telemetry.facts(),
        }


def announce_end(writer: Writer) -> None:
    """Write what is asked for at the end of every run: peak memory and the state of the device."""
    writer.emit("memory", peak_memory_bytes=telemetry.peak_memory_bytes())
    writer.emit("telemetry", telemetry=telemetry.snapshot())
