"""Does `edgekd profile` tell the truth? The agent's median inference latency against the runtime's own program.

    python benchmarks/profile_agreement.py                              # yolo11n at 320 px, one thread, about 3 minutes
    python benchmarks/profile_agreement.py --runtime onnxruntime
    python benchmarks/profile_agreement.py --threads 2 --seconds 8 --rounds 20

`openvino` has `benchmark_app`, `onnxruntime` the loop of its `transformers.bert_perf_test`, which comes with the
package (`onnxruntime_perf_test` does not). Both sides run the same float32 artifact with one stream, one synchronous
request and the same number of threads, in a fresh process each, and take turns in random order. The peer repeats
inference alone, on one random input; the agent times it inside its whole loop, between pre- and post-processing of real
images. The figure is the median over rounds of the ratio of the two median latencies.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from paired import ROOT, environment, interleave, ratio, say, use_cores

WEIGHTS = ROOT / "recipes" / "weights" / "digits-yolo11n.safetensors"
GOAL = 0.03
PACK_IMAGES = 16
# Model, threads, seconds; prints the median in seconds. Warm-up: as long as the agent's.
PERF_LOOP = """
import statistics, sys, time
from pathlib import Path
import numpy as np, onnxruntime
sys.path.insert(0, str(Path(onnxruntime.__file__).parent / "transformers"))
import bert_perf_test
session = bert_perf_test.create_session(sys.argv[1], False, "cpu", int(sys.argv[2]))
taken = session.get_inputs()[0]
inputs = {taken.name: np.random.default_rng(0).random(taken.shape, np.float32)}
names = [output.name for output in session.get_outputs()]
until, count = time.monotonic() + 1, 0
while time.monotonic() < until:
    bert_perf_test.onnxruntime_inference(session, [inputs], names)
    count += 2
_, seconds = bert_perf_test.onnxruntime_inference(session, [inputs] * max(64, count * int(sys.argv[3])), names)
print(statistics.median(seconds))
"""


class Bench:
    """One artifact, timed by both."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        from edgekd.data.config import DigitsData, load
        from edgekd.data.pack import build
        from edgekd.devices import catalog

        say("data and model")
        self.options, self.folder = options, folder
        size_px = (options.imgsz, options.imgsz)
        images = DigitsData(format="digits", imgsz=options.imgsz, train=1, val=PACK_IMAGES, test=1)
        data = load(images, folder / "data", Path())
        self.pack = build(data.splits["val"], size_px, data.channels, folder / "packs").npy_path
        self.artifact = _export(options.weights, options.runtime, size_px, folder / "artifact")
        self.device = catalog.load(str(ROOT / "devices" / "local.yaml"))

    def peer(self) -> tuple[str, Callable[[], float]]:
        """The runtime's own program: name, and a call that gives a median latency in seconds."""
        own = {"openvino": ("benchmark_app", self._benchmark_app), "onnxruntime": ("perf loop", self._perf_loop)}
        return own[self.options.runtime]

    def agent(self) -> float:
        """Median inference time of one process of `edgekd profile`, in seconds."""
        from edgekd.devices import catalog, run_agent
        from edgekd.measure.latency import Protocol

        seconds = self.options.seconds
        protocol = Protocol("benchmark", 1, warmup_seconds=1, min_count=64, min_seconds=seconds, needs_steady=False)
        with catalog.open_device(self.device) as device:
            threads = self.options.threads
            events = run_agent.profile(device, self.artifact, self.pack, protocol=protocol, threads=threads)
        samples = [sample for event in events[0] if event["event"] == "samples" for sample in event["inference_ns"]]
        return median(samples) / 1e9

    def _benchmark_app(self) -> float:
        report = self.folder / "report"
        report.mkdir(exist_ok=True)
        _said([
            str(Path(sys.executable).with_name("benchmark_app")), "-m", str(self.artifact / "model.xml"), "-d", "CPU",
            "-hint", "none", "-api", "sync", "-nstreams", "1", "-nireq", "1", "-nthreads", str(self.options.threads),
            "-ip", "f32", "-infer_precision", "f32", "-t", str(self.options.seconds),
            "-json_stats", "-report_type", "no_counters", "-report_folder", str(report),
        ])  # fmt: skip
        results = json.loads((report / "benchmark_report.json").read_text())["execution_results"]
        return float(results["latency (ms)"]) / 1e3

    def _perf_loop(self) -> float:
        settings = (str(self.options.threads), str(self.options.seconds))
        return float(_said([sys.executable, "-c", PERF_LOOP, str(self.artifact / "model.onnx"), *settings]))


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{Path(command[0]).name} failed: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout


def _export(weights: Path, runtime: str, size_px: tuple[int, int], folder: Path) -> Path:
    from edgekd.atomic import sha256_file
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector
    from edgekd.export.contract import Source
    from edgekd.export.targets import load_target, run_steps

    detector = UltralyticsDetector.opened(Asked(None, weights, (), 3, "detector"))
    spec, module = detector.spec, detector.export_module("one2many").eval()
    source = Source(module, module.decode, spec.class_names, 3, size_px, spec.size_multiple, sha256_file(weights))
    target = {"openvino": "openvino-fp32", "onnxruntime": "onnx-fp32"}[runtime]
    return run_steps(source, load_target(str(ROOT / "export" / f"{target}.yaml"), {}, "benchmark"), folder).folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=("openvino", "onnxruntime"), default="openvino")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=4, help="timed seconds per process")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--pin", action="store_true", help="keep everything on as many cores as there are threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="profile-agreement-") as name:
        from edgekd.detectors.ultralytics.guard import guard

        guard(Path(name) / "engine")
        bench = Bench(options, Path(name))
        peer, call = bench.peer()
        times = interleave({"agent": bench.agent, peer: call}, options.rounds)
    agreement = ratio(times["agent"], times[peer])
    print(json.dumps({
        "benchmark": "profile_agreement",
        "settings": {**vars(options), "weights": options.weights.name},
        "environment": environment(options.runtime, "numpy"),
        "median_ms": {name: round(1e3 * median(values), 3) for name, values in times.items()},
        "rounds_ms": {name: [round(1e3 * value, 3) for value in values] for name, values in times.items()},
        f"agent / {peer}": {**agreement, "goal_within": GOAL},
        "seconds": round(time.monotonic() - started, 1),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
