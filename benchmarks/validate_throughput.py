"""Images per second of validating one ONNX file: `edgekd validate` against `yolo val`.

    python benchmarks/validate_throughput.py                            # 96 and 320 px, one thread, about 4 minutes
    python benchmarks/validate_throughput.py --threads 2 --rounds 9

Both sides get the same file (edgekd's `onnx-fp32` of a trained detector, with Ultralytics' one output and metadata
added to the same graph), the same images, head (one2many), input size, batch 1, thresholds (conf 0.001, NMS IoU 0.7,
300 detections) and number of threads, and take turns. Counted on both sides, from the data.yaml to AP: reading labels
(facts of the files are cached by both), decoding and letterboxing the images, opening the model, inference, NMS and AP.
edgekd also starts the agent in a process of its own, writes its pack of letterboxed images, its detections and its
summary, and computes a precision and recall; `without_start` takes off what a bare process needs to import the agent's
numpy and onnxruntime, measured in the same round. Importing torch and Ultralytics is counted on neither side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from paired import ROOT, environment, interleave, ratio, say, seconds_of, use_cores

WEIGHTS = ROOT / "recipes" / "weights" / "digits-yolo11n.safetensors"
GOAL = 2.0
_COUNTED = 50


class Bench:
    """Both sides at one size."""

    def __init__(self, options: argparse.Namespace, imgsz: int, folder: Path) -> None:
        from edgekd.data.digits import generate
        from edgekd.devices.catalog import load
        from edgekd.recipe.schema import ValidateRecipe

        say(f"{imgsz} px: data and model")
        self.folder, self.imgsz, self.threads = folder, imgsz, options.threads
        self.data_yaml = generate(folder / "digits", imgsz=imgsz, train=1, val=options.images, test=1)
        self.artifact = _export(options.weights, imgsz, folder / "artifact")
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
            (scores,) = session.run(["scores"], {"images": image})
            counts.append(np.count_nonzero(scores > self.settings.conf))
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
    times = interleave({name: lambda side=side: seconds_of(side) for name, side in sides.items()}, options.rounds)
    inside = [whole - start for whole, start in zip(times["edgekd"], times["start"], strict=True)]
    per_second = {name: round(options.images / median(times[name]), 1) for name in bench.ap}
    return {
        "images_per_second": per_second,
        "agent_start_seconds": round(median(times["start"]), 3),
        "candidates_per_image": bench.candidates(),
        "ap": {name: round(value, 4) for name, value in bench.ap.items()},
        "ratio": {**ratio(times["ultralytics"], times["edgekd"]), "goal_at_least": GOAL},
        "ratio_without_start": ratio(times["ultralytics"], inside),
    }


def _export(weights: Path, imgsz: int, folder: Path) -> Path:
    """edgekd's artifact, with what Ultralytics asks of an ONNX file added."""
    import onnx

    from edgekd.atomic import sha256_file
    from edgekd.detectors.ultralytics import UltralyticsDetector
    from edgekd.export.artifacts import seal
    from edgekd.export.contract import Source
    from edgekd.export.targets import load_target, run_steps

    detector = UltralyticsDetector.from_recipe(None, weights, None, 3, "detector")
    module = detector.export_module("one2many").eval()
    spec = detector.spec
    source = Source(
        module, module.decode, spec.class_names, 3, (imgsz, imgsz), spec.size_multiple, sha256_file(weights)
    )  # fmt: skip
    artifact = run_steps(source, load_target(str(ROOT / "export" / "onnx-fp32.yaml"), {}, "benchmark"), folder)
    model = onnx.load(artifact.model_path)
    _add_ultralytics_output(model)
    details = {
        "names": dict(enumerate(spec.class_names)), "stride": spec.size_multiple, "task": "detect",
        "imgsz": [imgsz, imgsz], "batch": 1, "channels": 3, "end2end": False,
    }  # fmt: skip
    for key, value in details.items():
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=str(value)))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, artifact.model_path)
    return seal(folder, ("model.onnx",), artifact.sidecar).folder


def _add_ultralytics_output(model: Any) -> None:
    """First output `output0` (1, 4 + K, A), boxes as centre and size, from `boxes` (1, A, 4) and `scores` (1, A, K)."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    matrix = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32)
    graph.initializer.append(numpy_helper.from_array(matrix, "corners_to_centre"))
    graph.node.extend([
        helper.make_node("MatMul", ["boxes", "corners_to_centre"], ["centred"], name="centred"),
        helper.make_node("Concat", ["centred", "scores"], ["rows"], name="rows", axis=2),
        helper.make_node("Transpose", ["rows"], ["output0"], name="output0", perm=[0, 2, 1]),
    ])  # fmt: skip
    count, classes = (graph.output[1].type.tensor_type.shape.dim[axis].dim_value for axis in (1, 2))
    first = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + classes, count])
    outputs = [first, *graph.output]
    del graph.output[:]
    graph.output.extend(outputs)


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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pin", action="store_true", help="keep everything on as many cores as there are threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    started = time.monotonic()
    from edgekd.agent.protocol import claim_stdout
    from edgekd.detectors.engine_guard import guard

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
