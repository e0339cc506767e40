"""Seconds to export a student to ONNX: `edgekd export` against Ultralytics' exporter.

    python benchmarks/export_time.py --pin                              # yolo11n at 320 px, one thread, about 2 minutes

Both start from the same untrained model in memory and write one file with opset 17 and onnxslim. Counted on both sides:
copying and fusing the model, tracing, simplifying, checking, writing. Ultralytics runs the model twice before tracing;
edgekd instead compares the file with torch afterwards, which `with_parity` adds, on 32 images. On a busy machine the
processor's seconds say more than those of the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from paired import ROOT, environment, interleave, ratio, say, seconds_of, use_cores

GOAL = 1.2
OPSET = 17


class Bench:
    """Both exporters, with one model."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        import numpy as np
        from ultralytics import YOLO

        from edgekd.detectors.contract import Asked
        from edgekd.detectors.ultralytics.detector import UltralyticsDetector
        from edgekd.export.targets import load_target

        self.engine = YOLO(f"{options.model}.yaml")
        names = tuple(self.engine.names.values())
        self.detector = UltralyticsDetector.opened(Asked(options.model, None, names, 3, "detector"))
        self.spec = load_target(str(ROOT / "export" / "onnx-fp32.yaml"), {"opset": OPSET}, "benchmark")
        self.size_px, self.folder = (options.imgsz, options.imgsz), folder
        random = np.random.default_rng(0)
        self.images = random.integers(0, 256, (self.spec.parity_images, *self.size_px, 3), dtype=np.uint8)
        self.bytes: dict[str, int] = {}

    def edgekd(self, with_parity: bool = False) -> None:
        """What the stage export does, from a loaded student to the artifact."""
        from edgekd.export.contract import Source
        from edgekd.export.parity import compare
        from edgekd.export.targets import run_steps

        module = self.detector.export_module("one2many").eval()
        spec = self.detector.spec
        source = Source(module, module.decode, spec.class_names, 3, self.size_px, spec.size_multiple, "0" * 64)
        artifact = run_steps(source, self.spec, self.folder / "edgekd")
        if with_parity:
            compare(module, artifact, self.images, self.spec)
        self.bytes["edgekd"] = artifact.model_path.stat().st_size

    def ultralytics(self) -> None:
        """What `yolo export` does, from a loaded model to the file."""
        file = self.engine.export(
            format="onnx", imgsz=self.size_px[0], opset=OPSET, simplify=True, device="cpu", verbose=False
        )
        self.bytes["ultralytics"] = Path(file).stat().st_size


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Rounds."""
    bench = Bench(options, folder)
    sides = {
        "edgekd": bench.edgekd,
        "edgekd_with_parity": lambda: bench.edgekd(with_parity=True),
        "ultralytics": bench.ultralytics,
    }
    for side in sides.values():
        side()  # imports
    processor: dict[str, list[float]] = {name: [] for name in sides}

    def timed(name: str) -> float:
        started = time.process_time()
        seconds = seconds_of(sides[name])
        processor[name].append(time.process_time() - started)
        return seconds

    times = interleave({name: partial(timed, name) for name in sides}, options.rounds)
    return {
        "seconds": {name: round(median(seconds), 2) for name, seconds in times.items()},
        "edgekd / ultralytics": {**ratio(times["edgekd"], times["ultralytics"]), "goal_at_most": GOAL},
        "processor seconds": {name: round(median(seconds), 2) for name, seconds in processor.items()},
        "processor, edgekd / ultralytics": ratio(processor["edgekd"], processor["ultralytics"]),
        "with_parity / ultralytics": ratio(times["edgekd_with_parity"], times["ultralytics"]),
        "bytes": bench.bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolo11n")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pin", action="store_true", help="keep everything on as many cores as there are threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="export-time-") as name, contextlib.redirect_stdout(sys.stderr):
        results = _in(Path(name), options)
    print(json.dumps({
        "benchmark": "export_time",
        "settings": vars(options) | {"opset": OPSET},
        "environment": environment("torch", "ultralytics", "onnx", "onnxslim"),
        "results": results,
        "seconds": round(time.monotonic() - started, 1),
    }, indent=2))  # fmt: skip


def _in(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from edgekd.detectors.ultralytics.guard import guard

    guard(folder / "engine")
    import torch
    from ultralytics.utils import LOGGER

    torch.set_num_threads(options.threads)  # after the import of Ultralytics, which sets it too
    LOGGER.setLevel("ERROR")
    os.chdir(folder)
    say("model")
    return measure(options, folder)


if __name__ == "__main__":
    main()
