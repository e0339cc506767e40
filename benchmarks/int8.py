"""What 8 bits gain and cost on this machine, beside Ultralytics' own INT8 export of the same student.

    python benchmarks/int8.py                                         # yolo11n, about 10 minutes on 2 quiet cores
    python benchmarks/int8.py --model yolo26n --weights best.pt --pin
    python benchmarks/int8.py --model rtmdet-p --weights RUN/student/student.safetensors --imgsz 96  # no YOLO, no peer

Latency is that of one inference, batch 1, from the input array to raw outputs, with the settings of edgekd's agent for
all, Ultralytics' model included; variants take turns in random order. AP is pycocotools', after edgekd's NMS (conf
0.001, IoU 0.7, 300 detections) on the same validation images for all. edgekd calibrates on train images; Ultralytics
on all validation images, which is what `yolo export format=openvino int8=True` does. The AP of a set of settings for
ONNX Runtime is measured for the quickest one and for the target as it ships.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from paired import ROOT, environment, interleave, ratio, say, use_cores

WEIGHTS = ROOT / "recipes" / "weights" / "digits-yolo11n.safetensors"
GOALS = {"openvino": 1.6, "onnxruntime": 1.2, "ap_lost": 0.005}
ORT_SETTINGS: dict[str, dict[str, Any]] = {
    "onnx-int8": {},
    "onnx-int8 per tensor": {"per_channel": False},
    "onnx-int8 layers only": {"operators": "layers"},
    "onnx-int8 uint8 weights": {"weights": "uint8"},
}
_QUICK: dict[str, Any] = {"max_drop": None, "sensitivity_images": 0, "calibration_images": 16}  # only timed
_BURST_S = 0.15


class Bench:
    """One student, its data, and what was made of it."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        from edgekd.run_dir import RunDir
        from edgekd.stages.binding import bind_recipe
        from edgekd.stages.context import Context

        self.folder, self.threads, self.size_px = folder, options.threads, options.imgsz
        self.shipped = {} if options.max_drop is None else {"max_drop": options.max_drop}
        recipe = folder / "int8.json"
        recipe.write_text(json.dumps({
            "name": "int8", "threads": options.threads, "control": False,
            "data": {"format": "digits", "imgsz": 96, "train": options.train, "val": options.images, "test": 1},
            "student": {"model": options.model, "weights": str(Path(options.weights).resolve())},
            "train": {"imgsz": 96, "epochs": 1}, "export": [], "devices": ["local"],
        }))  # fmt: skip
        bound = bind_recipe(recipe)
        self._held = RunDir.held(folder / "run", bound.recipe.name, bound.base, bound.locked())
        self.context = Context(bound, self._held.__enter__())
        self.student = self.context.pair.student

    def export(self, name: str, target: str, size_px: int, **options: Any) -> Path:
        """Folder of an artifact at a size."""
        from edgekd.export.contract import Source
        from edgekd.export.targets import load_target, run_steps
        from edgekd.stages.quantization_images import material_for

        module: Any = self.student.export_module(self.context.pair.head).eval()
        size = (size_px, size_px)
        source = Source(
            module, module.decode, self.context.data.class_names, 3, size, self.student.spec.size_multiple, "0" * 64
        )
        overrides = {"options": {target: options}} if options else {}
        spec = load_target(str(ROOT / "export" / f"{target}.yaml"), overrides, "int8")
        say(f"export {name} at {size_px} px")
        place = self.folder / str(size_px) / name.replace(" ", "-")
        return run_steps(source, spec, place, material_for(self.context, self.student, size)).folder

    def ultralytics(self, size_px: int, fraction: float) -> Path:
        """Ultralytics' INT8 export: the folder with its IR, calibrated on a share of the validation images."""
        from ultralytics import YOLO
        from ultralytics.utils import DEFAULT_CFG_DICT

        say(f"export ultralytics at {size_px} px")
        place = self.folder / str(size_px) / "ultralytics"
        place.mkdir(parents=True)
        model = YOLO(f"{self.student.spec.name}.yaml", task="detect")
        model.model = deepcopy(self.student.module)
        model.model.args = {**DEFAULT_CFG_DICT, "imgsz": size_px}
        model.model.task = "detect"
        model.ckpt_path = model.model.pt_path = str(place / "student.pt")
        (place / "student.pt").touch()
        data_yaml = next((self.folder / "run").rglob("digits/data.yaml"))
        # It sends what it prints to standard output, which is for the result.
        with _stdout_to_stderr():
            made = model.export(format="openvino", int8=True, imgsz=size_px, data=str(data_yaml), fraction=fraction)
        return Path(made)

    def ap(self, run: Callable[[Any], list[Any]]) -> float:
        """AP on the validation images; `run` gives the raw outputs of one image as edgekd's decoder takes them."""
        import numpy as np

        from edgekd.agent.postprocess import postprocess
        from edgekd.measure.average_precision import evaluate
        from edgekd.types import Detections

        split, pack = self.context.data.splits["val"], self.context.pack((96, 96))
        found = {}
        for index, (truth, image) in enumerate(zip(split.images, pack.arrays(), strict=True)):
            batch = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)
            boxes, scores, classes = postprocess(run(batch), 0.001, 0.7, 300)
            found[truth.image_id] = Detections(pack.restore(index, boxes), scores, classes)
        return evaluate(split.images, found, self.context.data.class_names).ap

    def opened(self, folder: Path) -> Callable[[Any], list[Any]]:
        """An artifact in the agent's runtime: outputs of one image."""
        from edgekd.agent.artifact import load
        from edgekd.agent.runtimes import open_model

        made = load(folder)
        runtime = open_model(made.runtime, made.model_path, self.threads, made.precision)
        order = [runtime.output_names.index(name) for name in ("boxes", "scores") if name in runtime.output_names]

        def run(batch: Any) -> list[Any]:
            outputs = runtime.run(batch)
            return [outputs[index][0] for index in order or [0]]

        return run

    def opened_ultralytics(self, folder: Path) -> Callable[[Any], list[Any]]:
        """Their IR with the agent's settings; boxes of the dense form are turned into corners."""
        import numpy as np

        from edgekd.agent.runtimes import open_model

        runtime = open_model("openvino", next(folder.glob("*.xml")), self.threads, "int8")

        def run(batch: Any) -> list[Any]:
            rows = runtime.run(batch)[0][0]
            if rows.shape[-1] == 6:
                return [rows]
            centre, side = rows[:2].T, rows[2:4].T / 2
            return [np.hstack([centre - side, centre + side]), np.ascontiguousarray(rows[4:].T)]

        return run


class _stdout_to_stderr:  # noqa: N801
    """File descriptor 1 goes where 2 goes, for libraries that print."""

    def __enter__(self) -> None:
        sys.stdout.flush()
        self._kept = os.dup(1)
        os.dup2(2, 1)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        os.dup2(self._kept, 1)
        os.close(self._kept)


def burst(run: Callable[[Any], list[Any]], batch: Any) -> Callable[[], float]:
    """A variant for `interleave`: the median inference of a short burst, in seconds."""
    run(batch)

    def once() -> float:
        times: list[float] = []
        until = time.perf_counter() + _BURST_S
        while time.perf_counter() < until or len(times) < 5:
            started = time.perf_counter()
            run(batch)
            times.append(time.perf_counter() - started)
        return sorted(times)[len(times) // 2]

    return once


def measure(bench: Bench, size_px: int, rounds: int, accuracy: bool) -> dict[str, Any]:
    """Latencies and their ratios at one size, and the AP of each where it is asked for."""
    import numpy as np

    folders = {
        "onnx-fp32": bench.export("onnx-fp32", "onnx-fp32", size_px),
        "openvino-fp32": bench.export("openvino-fp32", "openvino-fp32", size_px),
        "openvino-int8": bench.export(
            "openvino-int8", "openvino-int8", size_px, **(bench.shipped if accuracy else _QUICK)
        ),
    }
    for name, settings in ORT_SETTINGS.items():
        ships = accuracy and not settings
        folders[name] = bench.export(name, "onnx-int8", size_px, **(bench.shipped if ships else {**_QUICK, **settings}))
    runs = {name: bench.opened(folder) for name, folder in folders.items()}
    if bench.student.spec.name.startswith("yolo"):  # it has no rtdetr of the scales p and n
        theirs = bench.ultralytics(size_px, 1.0 if accuracy else 0.05)
        runs["ultralytics openvino int8"] = bench.opened_ultralytics(theirs)
    batch = np.random.default_rng(0).random((1, 3, size_px, size_px), dtype=np.float32)
    times = interleave({name: burst(run, batch) for name, run in runs.items()}, rounds)
    faster = {name: ratio(times["onnx-fp32"], times[name]) for name in ORT_SETTINGS}
    best = max(faster, key=lambda name: faster[name]["median"])
    report: dict[str, Any] = {
        "latency_ms": {name: round(1e3 * float(np.median(seconds)), 3) for name, seconds in times.items()},
        "openvino_fp32_over_int8": ratio(times["openvino-fp32"], times["openvino-int8"]),
        "onnxruntime_fp32_over_int8": faster,
        "onnxruntime_best": best,
    }
    if "ultralytics openvino int8" in times:
        report["ultralytics_over_ours"] = ratio(times["ultralytics openvino int8"], times["openvino-int8"])
    if accuracy:
        measured = [name for name in runs if name not in ORT_SETTINGS or name in (best, "onnx-int8")]
        report["ap"] = {}
        for name in measured:
            report["ap"][name] = round(bench.ap(runs[name]), 5)
            say(f"AP {name}: {report['ap'][name]}")
        kept = {
            name: json.loads((folders[name] / "quantization.json").read_text())
            for name in ("onnx-int8", "openvino-int8")
        }
        report["float_layers"] = {name: [one["float_layers"], len(one["layers"])] for name, one in kept.items()}
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolo11n")
    parser.add_argument("--weights", default=str(WEIGHTS), help="trained on digits of 96 px")
    parser.add_argument("--images", type=int, default=2000, help="validation images")
    parser.add_argument("--train", type=int, default=1600, help="train images, to calibrate on")
    parser.add_argument("--imgsz", type=int, nargs="+", default=[96, 320], help="AP is measured at 96 px alone")
    parser.add_argument("--max-drop", type=float, help="AP on train images that may be lost; default: the target's")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pin", action="store_true", help="keep this process on as many cores as threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        sizes = {size: measure(bench, size, options.rounds, accuracy=size == 96) for size in options.imgsz}
    print(json.dumps({
        "benchmark": "int8", "model": options.model, "images": options.images, "threads": options.threads,
        "goals": GOALS, "sizes_px": sizes,
        "environment": environment("torch", "ultralytics", "onnxruntime", "openvino", "nncf"),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
