"""How often is `edgekd compare` wrong? Two artifacts of known work: chains of equal convolutions, one 3 % longer.

    python benchmarks/gate_power.py                         # about 50 minutes on 2 quiet cores
    python benchmarks/gate_power.py --real 5 --slower 5     # a shorter try
    python benchmarks/gate_power.py --threads 2             # without a core for everybody else
    python benchmarks/gate_power.py --replay D --real 0 --slower 0   # of what `edgekd compare A A --out D` left

`replays`: processes in which the same artifact ran three times are recorded once (`--record`), then drawn with
replacement into so many whole comparisons with a budget of 1 %; the share that fails is the rate of false alarms.
`real`: whole comparisons of an artifact with itself. `slower`: whole comparisons with the longer one, where anything
but `fail` is a miss; `work` is the true ratio of their layers, which pre- and post-processing dilute a little.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paired import environment, say, use_cores

SIDE, CHANNELS, LAYERS = 24, 16, 100
GOAL_SECONDS = 120


def artifact(folder: Path, layers: int) -> Path:
    """An artifact folder whose model has so many equal convolutions and finds nothing."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random_weights = np.random.default_rng(0)
    shapes = {"first": (CHANNELS, 3, 3, 3), "each": (CHANNELS, CHANNELS, 3, 3)}
    weights = {name: random_weights.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["none"] = np.zeros((1, 1, 6), np.float32)
    nodes = [helper.make_node("Conv", ["images", "first"], ["x0"], pads=[1] * 4)]
    for index in range(layers):
        nodes.append(helper.make_node("Conv", [f"x{index}", "each"], [f"y{index}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"y{index}"], [f"x{index + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"x{layers}"], ["mean"], axes=[1, 2, 3], keepdims=0))
    nodes.append(helper.make_node("Mul", ["mean", "none"], ["detections"]))
    graph = helper.make_graph(
        nodes, "work", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, [1, 1, 6])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    (folder / "edgekd.json").write_text(json.dumps({
        "schema_version": "edgekd.artifact/1", "target": f"layers-{layers}", "runtime": "onnxruntime",
        "precision": "fp32", "files": {"model.onnx": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()},
        "class_names": ["thing"], "input_shape": [1, 3, SIDE, SIDE], "size_px": [SIDE, SIDE], "decode": "end2end",
        "parent_sha256": "0" * 64, "tools": {},
    }))  # fmt: skip
    return folder


def subject(folder: Path, pack: Path) -> Any:
    """What `compare` takes, without labels."""
    from edgekd.data.pack import Pack
    from edgekd.export.artifacts import open_artifact
    from edgekd.stages.compared_artifact import Subject

    return Subject(open_artifact(folder), Pack(pack, (), (SIDE, SIDE), 3, "frames"), ())


def device_file(folder: Path, threads: int) -> str:
    """This machine, with so many threads of inference."""
    path = folder / "here.yaml"
    path.write_text(f"transport: local\nruntimes: [onnxruntime]\nthreads: {threads}\n")
    return str(path)


def record(folder: Path, pack: Path, device_name: str, count: int) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Log ratios of processes in which one artifact is reference, copy and candidate."""
    from edgekd.devices import catalog, run_compare
    from edgekd.devices.run_compare import Rounds, Side

    side, found = Side(folder, pack), []
    with catalog.open_device(catalog.load(device_name)) as device:
        for number in range(count):
            events = run_compare.one_process(device, side, side, rounds=Rounds(), seed=number)
            found.append(run_compare.log_ratios(events))
            say(f"recorded {number + 1}/{count}")
    return found


def kept(folder: Path) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Log ratios of the processes of comparisons of an artifact with itself."""
    from edgekd.devices import run_compare

    paths = sorted(folder.rglob("process-*.jsonl"))
    return [run_compare.log_ratios([json.loads(line) for line in path.read_text().splitlines()]) for path in paths]


def replay(recorded: Sequence[dict[str, np.ndarray[Any, Any]]], times: int) -> dict[str, Any]:
    """Whole comparisons drawn from the recorded processes."""
    from edgekd.gate.comparison import look
    from edgekd.stages.compare import Rules

    rules, draw, outcomes = Rules(accuracy=False), random.Random(0), Counter[str]()
    for _ in range(times):
        drawn = draw.choices(recorded, k=rules.looks[-1])
        candidates, copies = ([one[name] for one in drawn] for name in ("candidate", "copy"))
        decisions = (look(rules.plan, candidates[:count], copies[:count]).status for count in rules.looks)
        outcomes[next(status for status in decisions if status)] += 1
    return {"replays": times, "outcomes": dict(outcomes), "false_alarms": outcomes["fail"] / times}


def judged(reference: Any, candidate: Any, device_name: str, times: int, out: Path) -> dict[str, Any]:
    """Real comparisons, each from nothing."""
    from edgekd.stages.compare import Rules, compare

    outcomes, seconds, estimates, in_time = Counter[str](), [], [], 0
    for number in range(times):
        began, rules = time.monotonic(), Rules(accuracy=False, seed=1000 * number)
        verdict = compare(reference, candidate, device_name, rules, out / str(number))
        seconds.append(round(time.monotonic() - began, 1))
        estimates.append(round(verdict.checks[0].value or 0.0, 5))
        outcomes[verdict.status] += 1
        in_time += verdict.status == "fail" and seconds[-1] <= GOAL_SECONDS
        say(f"{number + 1}/{times}: {verdict.checks[0].detail}, {seconds[-1]} s")
    return {
        "outcomes": dict(outcomes), f"failed_within_{GOAL_SECONDS}_s": in_time, "seconds": seconds,
        "estimates": estimates,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=int, default=60, help="processes to record")
    parser.add_argument("--replay", type=Path, help="folder of recorded processes, instead of recording some")
    parser.add_argument("--replays", type=int, default=3000)
    parser.add_argument("--real", type=int, default=30, help="comparisons of an artifact with itself")
    parser.add_argument("--slower", type=int, default=20, help="comparisons with the longer one")
    parser.add_argument("--threads", type=int, default=1, help="of inference")
    options = parser.parse_args()
    use_cores(options.threads, pin=False)
    with tempfile.TemporaryDirectory(prefix="edgekd-power-") as name:
        folder = Path(name)
        pack = folder / "pack.npy"
        np.save(pack, np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8))
        longer = round(LAYERS * 1.03)
        short, long = artifact(folder / "short", LAYERS), artifact(folder / "long", longer)
        reference, device = subject(short, pack), device_file(folder, options.threads)
        recorded = kept(options.replay) if options.replay else record(short, pack, device, options.record)
        result = {
            "replayed": {"processes": len(recorded), **replay(recorded, options.replays)},
            "real": judged(reference, reference, device, options.real, folder / "real"),
            "slower": judged(reference, subject(long, pack), device, options.slower, folder / "slower"),
            "work": (longer + 1) / (LAYERS + 1),
        }
    print(json.dumps({
        "benchmark": "gate_power", "settings": {**vars(options), "replay": bool(options.replay)},
        "environment": environment("onnxruntime"), **result,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
