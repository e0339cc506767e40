"""What the agent does around a model, per image: normalise, decode and NMS, against Ultralytics and torchvision.

    python benchmarks/postprocess.py --pin                              # 320 px, one thread, about 2 minutes
    python benchmarks/postprocess.py --weights student.safetensors --rounds 30

Predictions are those of a trained detector on `digits` images of 320 px, the same numbers for all: Ultralytics gets
them as its head gives them (centre and size), the others as corners, converted outside the clock. All do the same
class-wise NMS over every (box, class) pair above the threshold (IoU 0.7, 300 detections); `equal` says whether the
results are, to the last bit. torchvision's is `batched_nms` between a threshold and a cut, the least that a user would
write around it. A second set of predictions is random, 2,100 boxes of 80 classes in clusters, many above the threshold.

`folded` times whole passes from a 480x640 camera frame to detections, through the agent's own loop, for artifacts with
`input: uint8_nhwc` and `nms: in_graph`, in turns with the plain artifact of the same runtime: what a pass takes beside
its own inference (median), and what it takes beyond the plain artifact's inference (difference of the tenth
percentiles, which other programs disturb least).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from paired import ROOT, environment, interleave, ratio, say, seconds_of, use_cores

WEIGHTS = ROOT / "recipes" / "weights" / "digits-yolo11n.safetensors"
IOU, MAX_DET = 0.7, 300
GOAL_MS, GOAL_RATIO, GOAL_FOLDED_MS = 3.0, 0.5, 0.5
_FOLDED = {"nms": "in_graph", "input": "uint8_nhwc"}


class Predictions:
    """Raw predictions of some images, in the form that each side takes."""

    def __init__(self, centred: Any, scores: Any) -> None:
        """Take centred (n, N, 4) boxes as centre and size, and scores (n, N, K)."""
        import numpy as np
        import torch
        from ultralytics.utils.ops import xywh2xyxy

        rows = np.concatenate([centred, scores], axis=2).transpose(0, 2, 1)
        self.heads = [torch.from_numpy(np.ascontiguousarray(row[None])) for row in rows]
        self.boxes, self.scores = xywh2xyxy(centred), np.ascontiguousarray(scores)
        self.tensors = [
            (torch.from_numpy(b), torch.from_numpy(s)) for b, s in zip(self.boxes, self.scores, strict=True)
        ]

    def edgekd(self, conf: float) -> list[Any]:
        """Rows x1 y1 x2 y2 score class per image."""
        import numpy as np

        from edgekd.agent.postprocess import Settings, decode_dense

        settings = Settings(conf, IOU, MAX_DET)
        found = [decode_dense(boxes, scores, settings) for boxes, scores in zip(self.boxes, self.scores, strict=True)]
        return [np.column_stack([one.boxes_px, one.scores, one.class_ids]) for one in found]

    def ultralytics(self, conf: float) -> list[Any]:
        """The same by its validator's function."""
        from ultralytics.utils.nms import non_max_suppression

        return [non_max_suppression(head, conf, IOU, multi_label=True, max_det=MAX_DET)[0] for head in self.heads]

    def torchvision(self, conf: float) -> list[Any]:
        """The same around `batched_nms`."""
        import torch
        from torchvision.ops import batched_nms

        results = []
        for boxes, scores in self.tensors:
            points, classes = torch.where(scores > conf)
            chosen, best = boxes[points], scores[points, classes]
            kept = batched_nms(chosen, best, classes, IOU)[:MAX_DET]
            results.append(torch.cat([chosen[kept], best[kept, None], classes[kept, None].float()], 1))
        return results


def compare(predictions: Predictions, conf: float, rounds: int) -> dict[str, Any]:
    """The three at one threshold."""
    import numpy as np

    sides = {name: getattr(predictions, name) for name in ("edgekd", "ultralytics", "torchvision")}
    results = {name: side(conf) for name, side in sides.items()}
    count = len(predictions.boxes)

    def equal(name: str) -> bool:
        pairs = zip(results["edgekd"], results[name], strict=True)
        return all(np.array_equal(ours, np.asarray(theirs)) for ours, theirs in pairs)

    times = interleave({name: lambda side=side: seconds_of(lambda: side(conf)) for name, side in sides.items()}, rounds)
    return {
        "candidates_per_image": round(float(np.count_nonzero(predictions.scores > conf)) / count, 1),
        "detections_per_image": round(sum(map(len, results["edgekd"])) / count, 1),
        "ms_per_image": {name: round(median(seconds) * 1e3 / count, 3) for name, seconds in times.items()},
        "edgekd / ultralytics": ratio(times["edgekd"], times["ultralytics"]),
        "edgekd / torchvision": ratio(times["edgekd"], times["torchvision"]),
        "equal": {name: equal(name) for name in ("ultralytics", "torchvision")},
    }


def around(predictions: Predictions, images: Any, rounds: int) -> dict[str, Any]:
    """Normalise, decode and NMS at a threshold of 0.25, per image."""
    import numpy as np

    from edgekd.agent.preprocess import to_input

    buffer = np.empty((1, images.shape[3], *images.shape[1:3]), dtype=np.float32)

    def normalise() -> None:
        for index in range(len(images)):
            to_input(images[index : index + 1], "NCHW", "RGB", 255.0, buffer)

    def decode() -> None:
        predictions.edgekd(0.25)

    times = interleave({"normalise": lambda: seconds_of(normalise), "decode": lambda: seconds_of(decode)}, rounds)
    parts = {name: round(median(seconds) * 1e3 / len(images), 3) for name, seconds in times.items()}
    return {"ms_per_image": parts, "sum_ms": round(sum(parts.values()), 3), "goal_at_most_ms": GOAL_MS}


class Passes:
    """Passes of the agent's loop with one artifact."""

    def __init__(self, artifact: Path, pack: Path, threads: int, count: int) -> None:
        from edgekd.agent.__main__ import parser
        from edgekd.agent.pipeline import Pipeline
        from edgekd.agent.profile import Loop

        words = ["profile", "--artifact", str(artifact), "--pack", str(pack), "--threads", str(threads)]
        arguments = parser().parse_args(words)
        self.loop, self.count = Loop(Pipeline(arguments), arguments), count
        self.whole: list[float] = []  # ms of every pass
        self.inference: list[float] = []

    def __call__(self) -> float:
        """Some passes; their median, in seconds."""
        steps = [self.loop.step() for _ in range(self.count)]
        self.whole += [step["end_to_end_ns"] / 1e6 for step in steps]
        self.inference += [step["inference_ns"] / 1e6 for step in steps]
        return median(self.whole[-self.count :]) / 1e3

    def around(self) -> float:
        """Median of what a pass takes beside its inference, in ms."""
        return round(median(whole - inside for whole, inside in zip(self.whole, self.inference, strict=True)), 3)


def folded(options: argparse.Namespace, source: Any, pack: Path, folder: Path) -> dict[str, Any]:
    """Whole passes with both ends in the graph, over inference alone: of the same graph, and of the plain one."""
    from edgekd.export.targets import load_target, run_steps

    results = {}
    for target in ("onnx-fp32", "openvino-fp32"):
        passes = {}
        for name, over in (("plain", {}), ("folded", {**_FOLDED, "options": {"nms": {"conf": 0.25}}})):
            spec = load_target(str(ROOT / "export" / f"{target}.yaml"), over, "benchmark")
            artifact = run_steps(source, spec, folder / f"{target}-{name}").folder
            passes[name] = Passes(artifact, pack, options.threads, options.passes)
            passes[name]()
            passes[name].whole.clear()
            passes[name].inference.clear()
        interleave(passes, options.rounds)
        inside, outside = passes["folded"], passes["plain"]
        results[target] = {
            "inference_ms": {name: _undisturbed(one.inference) for name, one in passes.items()},
            "around_inference_ms": {name: one.around() for name, one in passes.items()},
            "whole_over_its_inference_ms": inside.around(),
            "whole_over_plain_inference_ms": round(_undisturbed(inside.whole) - _undisturbed(outside.inference), 3),
            "goal_at_most_ms": GOAL_FOLDED_MS,
        }  # fmt: skip
    return results


def _undisturbed(passes: list[float]) -> float:
    """The tenth percentile over all passes: what other programs slowed down is no property of the artifact."""
    return round(sorted(passes)[len(passes) // 10], 3)


def _source(weights: Path, imgsz: int) -> Any:
    from edgekd.atomic import sha256_file
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector
    from edgekd.export.contract import Source

    detector = UltralyticsDetector.opened(Asked(None, weights, (), 3, "detector"))
    module = detector.export_module("one2many").eval()
    size_px, spec = (imgsz, imgsz), detector.spec
    return Source(module, module.decode, spec.class_names, 3, size_px, spec.size_multiple, sha256_file(weights))


def _real(source: Any, images: Any) -> Predictions:
    import numpy as np
    import torch
    from ultralytics.utils.ops import xyxy2xywh

    with torch.inference_mode():
        batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255
        boxes, scores = source.module(batch)
    return Predictions(xyxy2xywh(boxes).numpy(), scores.numpy())


def _random(count: int, points: int = 2100, classes: int = 80, size_px: int = 320) -> Predictions:
    import numpy as np

    random = np.random.default_rng(0)
    centres = random.uniform(0, size_px, (count, 50, 2))
    members = random.integers(0, 50, (count, points, 1)).repeat(2, axis=2)
    centres = np.take_along_axis(centres, members, 1) + random.normal(0, size_px * 0.01, (count, points, 2))
    sides = np.exp(random.normal(np.log(size_px * 0.15), 0.25, (count, points, 2)))
    scores = 1 / (1 + np.exp(-random.normal(-12.0, 2.5, (count, points, classes))))
    return Predictions(np.concatenate([centres, sides], 2).astype(np.float32), scores.astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="a trained detector of digits")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--passes", type=int, default=20, help="of the loop, in one round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pin", action="store_true", help="keep everything on as many cores as there are threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="postprocess-") as name:
        results = _measure(options, Path(name))
    print(json.dumps({
        "benchmark": "postprocess",
        "settings": {**vars(options), "weights": options.weights.name},
        "environment": environment("torch", "torchvision", "ultralytics", "onnxruntime", "openvino", "numpy"),
        "results": results,
        "seconds": round(time.monotonic() - started, 1),
    }, indent=2))  # fmt: skip


def _measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import numpy as np

    from edgekd.data.config import DigitsData, load
    from edgekd.data.pack import build
    from edgekd.detectors.ultralytics.guard import guard

    guard(folder / "engine")
    import torch
    import torchvision  # noqa: F401  (Ultralytics then uses its NMS)
    import ultralytics  # noqa: F401

    torch.set_num_threads(options.threads)  # after the import of Ultralytics, which sets it too
    say("data and model")
    digits = DigitsData(format="digits", imgsz=options.imgsz, train=1, val=options.images, test=1)
    data = load(digits, folder / "data", Path())
    pack = build(data.splits["val"], (options.imgsz, options.imgsz), data.channels, folder / "packs").npy_path
    images, source = np.load(pack), _source(options.weights, options.imgsz)
    real, dense = _real(source, images), _random(4)
    return {
        "around the model, conf 0.25": around(real, images, options.rounds),
        "nms, conf 0.25": compare(real, 0.25, options.rounds),
        "nms, conf 0.001": {**compare(real, 0.001, options.rounds), "goal_at_most": GOAL_RATIO},
        "nms, conf 0.001, random": {**compare(dense, 0.001, options.rounds), "goal_at_most": GOAL_RATIO},
        "folded": folded(options, source, pack, folder),
    }


if __name__ == "__main__":
    main()
