"""Images per second of validating one ONNX file: `edgekd validate` against `yolo val`.

    python benchmarks/validate_throughput.py                            # 96 and 320 px, one thread, about 4 minutes
    python benchmarks/validate_throughput.py --threads 2 --rounds 9
    python benchmarks/validate_throughput.py --logit-shift 4            # many candidates: NMS has most of the work

Both sides get the same file (edgekd's `onnx-fp32` of a trained detector, with `layout: ultralytics`), the same images,
head (one2many), input size, batch 1, thresholds (conf 0.001, NMS IoU 0.7, 300 detections) and number of threads, and
take turns. Counted on both sides, from the data.yaml to AP: reading labels (facts of the files are cached by both),
decoding and letterboxing the images, opening the model, inference, NMS and AP. edgekd also starts the agent in a
process of its own, writes its pack of letterboxed images, its detections and its summary, and computes a precision and
recall; `without_start` takes off what a bare process needs to import the agent's numpy and onnxruntime, measured in the
same round. Importing torch and Ultralytics is counted on neither side. On a machine that is not quiet the processor's
seconds, those of the agent counted in, say more than those of the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from paired import ROOT, environment, interleave, ratio, say, seconds_of, use_cores

WEIGHTS = ROOT / "recipes" / "weights" / "digits-yolo11n.safetensors"
FEW, MANY = 1.5, 4.0  # goals: where candidates are few, and where NMS has most of the work
_MANY_CANDIDATES = 5000
_COUNTED = 50


class Bench:
    """Both sides at one size."""

    def __init__(self, options: argparse.Namespace, imgsz: int, folder: Path) -> None:
        from edgekd.data.digits import generate
        from edgekd.devices.catalog import load
        from edgekd.recipe.sections import ValidateRecipe

        say(f"{imgsz} px: data and model")
        self.folder, self.imgsz, self.threads = folder, imgsz, options.threads
        self.data_yaml = generate(folder / "digits", imgsz=imgsz, train=1, val=options.images, test=1)
        self.artifact = _export(options.weights, options.logit_shift, imgsz, folder / "artifact")
        self.settings = ValidateRecipe()
        self.device = load(str(ROOT / "devices" / "local.yaml"))
        self.ap: dict[str, float] = {}

    def edgekd(self) -> None:
        """What the stages data and validate do, with nothing left over from an earlier round but cached facts."""
        from edgekd.data.config import YoloData, load
        from edgekd.data.pack import build
        from edgekd.devices import catalog, run_agent
        from edgekd.stages.accuracy import summarise, write_accuracy
        from edgekd.types import Detections

        data = load(YoloData(format="yolo", path=str(self.data_yaml)), self.folder / "facts", Path())
        split, settings = data.splits["val"], self.settings
        with tempfile.TemporaryDirectory(dir=self.folder) as run:
            pack = build(split, (self.imgsz, self.imgsz), data.channels, Path(run) / "packs")
            with catalog.open_device(self.device) as device:
                prediction = run_agent.predict(
                    device, self.artifact, pack.npy_path,
                    conf=settings.conf, iou=settings.iou, max_det=settings.max_det, threads=self.threads,
                )  # fmt: skip
            found = [
                Detections(pack.restore(index, one.boxes_px), one.scores, one.class_ids)
                for index, one in enumerate(prediction.detections)
            ]
            summary = summarise(split, found, data.class_names, settings, "one2many")
            write_accuracy(Path(run), "onnx-fp32@local", summary, split=split, found=found, seconds=prediction.seconds)
        self.ap["edgekd"] = summary["ap"]

    def ultralytics(self) -> None:
        """`yolo val`, called as its command line calls it."""
        from ultralytics import YOLO

        metrics = YOLO(self.artifact / "model.onnx", task="detect").val(
            data=str(self.data_yaml), imgsz=self.imgsz, conf=self.settings.conf, iou=self.settings.iou,
            max_det=self.settings.max_det, rect=False, batch=1, workers=0, device="cpu", plots=False, save_json=False,
            verbose=False, project=str(self.folder), name="val", exist_ok=True,
        )  # fmt: skip
        self.ap["ultralytics"] = float(metrics.box.map)

    def candidates(self) -> float:
        """Mean number of (box, class) pairs above the threshold: the work that NMS has."""
        import numpy as np
        import onnxruntime

        from edgekd.data.letterbox import load_image

        session = onnxruntime.InferenceSession(self.artifact / "model.onnx")
        counts = []
        for path in sorted((self.data_yaml.parent / "images" / "val").iterdir())[:_COUNTED]:
            image = load_image(path, 3).transpose(2, 0, 1)[None] / np.float32(255)
            (rows,) = session.run(None, {"images": image})  # (1, 4 + classes, points)
            counts.append(np.count_nonzero(rows[:, 4:] > self.settings.conf))
        return round(float(np.mean(counts)), 1)

    def start(self) -> None:
        """What the agent's process needs before it can do anything."""
        subprocess.run([sys.executable, "-c", "import numpy, onnxruntime"], check=True)


def measure(options: argparse.Namespace, imgsz: int, folder: Path) -> dict[str, Any]:
    """Rounds at one size."""
    bench = Bench(options, imgsz, folder)
    sides = {"edgekd": bench.edgekd, "ultralytics": bench.ultralytics, "start": bench.start}
    for side in sides.values():
        side()  # fills caches of files and facts
    processor: dict[str, list[float]] = {name: [] for name in sides}

    def timed(name: str) -> float:
        started = _processor_seconds()
        seconds = seconds_of(sides[name])
        processor[name].append(_processor_seconds() - started)
        return seconds

    times = interleave({name: partial(timed, name) for name in sides}, options.rounds)
    candidates = bench.candidates()
    goal = MANY if candidates >= _MANY_CANDIDATES else FEW
    return {
        "images_per_second": _per_second(options.images, times),
        "images_per_processor_second": _per_second(options.images, processor),
        "agent_start_seconds": round(median(times["start"]), 3),
        "candidates_per_image": candidates,
        "ap": {name: round(value, 4) for name, value in bench.ap.items()},
        "ratio": {**ratio(times["ultralytics"], times["edgekd"]), "goal_at_least": goal},
        "ratio_without_start": _without_start(times),
        "processor_ratio": {**ratio(processor["ultralytics"], processor["edgekd"]), "goal_at_least": goal},
        "processor_ratio_without_start": _without_start(processor),
    }


def _processor_seconds() -> float:
    """Of this process and of those that it started and waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _per_second(images: int, seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(images / median(seconds[name]), 1) for name in ("edgekd", "ultralytics")}


def _without_start(seconds: dict[str, list[float]]) -> dict[str, float]:
    inside = [whole - start for whole, start in zip(seconds["edgekd"], seconds["start"], strict=True)]
    return ratio(seconds["ultralytics"], inside)


def _export(weights: Path, logit_shift: float, imgsz: int, folder: Path) -> Path:
    """edgekd's artifact, in the layout that Ultralytics reads as well; `logit_shift` is added to every class logit."""
    from edgekd.atomic import sha256_file
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector
    from edgekd.export.contract import Source
    from edgekd.export.targets import load_target, run_steps

    detector = UltralyticsDetector.opened(Asked(None, weights, (), 3, "detector"))
    for name, parameter in detector.module.named_parameters():
        if ".cv3." in name and name.endswith(".2.bias"):
            parameter.data += logit_shift
    module = detector.export_module("one2many").eval()
    spec = detector.spec
    source = Source(
        module, module.decode, spec.class_names, 3, (imgsz, imgsz), spec.size_multiple, sha256_file(weights)
    )  # fmt: skip
    target = load_target(str(ROOT / "export" / "onnx-fp32.yaml"), {"layout": "ultralytics"}, "benchmark")
    return run_steps(source, target, folder).folder


def _limit_ultralytics(threads: int) -> None:
    """Ultralytics gives onnxruntime no options, and so all cores; its sessions get the agent's number of threads."""
    import onnxruntime
    import torch
    from ultralytics.utils import LOGGER

    session = onnxruntime.InferenceSession

    def limited(path: Any, options: Any = None, **more: Any) -> Any:
        if options is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        return session(str(path), options, **more)

    onnxruntime.InferenceSession = limited
    torch.set_num_threads(threads)  # after the import of Ultralytics, which sets it too
    LOGGER.setLevel("ERROR")  # spares it the progress bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="a trained detector of digits")
    parser.add_argument("--imgsz", type=int, nargs="+", default=[96, 320])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--logit-shift", type=float, default=0.0, help="makes the detector unsure: many candidates")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pin", action="store_true", help="keep everything on as many cores as there are threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    started = time.monotonic()
    from edgekd.agent.protocol import claim_stdout
    from edgekd.detectors.ultralytics.guard import guard

    stdout = claim_stdout()  # Ultralytics prints there
    with tempfile.TemporaryDirectory(prefix="validate-throughput-") as name:
        guard(Path(name) / "engine")
        _limit_ultralytics(options.threads)
        results = {f"{imgsz} px": measure(options, imgsz, Path(name) / str(imgsz)) for imgsz in options.imgsz}
    text = json.dumps({
        "benchmark": "validate_throughput",
        "settings": {**vars(options), "weights": options.weights.name},
        "environment": environment("torch", "ultralytics", "onnxruntime", "hotcoco", "numpy"),
        "results": results,
        "seconds": round(time.monotonic() - started, 1),
    }, indent=2)  # fmt: skip
    stdout.write(text.encode() + b"\n")
    stdout.flush()


if __name__ == "__main__":
    main()
