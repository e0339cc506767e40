"""Knowledge from a disk: what a training step costs against one without any teacher and one that asks it; and sizes.

    python benchmarks/offline.py --pin --imgsz 96                           # yolo11p, teacher yolo11m; about 4 minutes
    python benchmarks/offline.py --pin --imgsz 160 --student yolo11n
    python benchmarks/offline.py --sizes --teacher yolo11l --imgsz 640 --classes 80    # bytes alone, half a minute

A step is zero_grad, forward, loss, backward and AdamW, as in train_step.py. Offline it begins with reading: the records
of a batch of random images are read from a store in a folder, checked, put together and unpacked, in the process that
trains (a loader with workers does all but the last beside it). Every variant has a student of the same initial weights
and an optimiser of its own. They alternate in one process, in random order; figures are medians of ratios within a
round. The files of the store are in the page cache, as those of a small store are in a training.

`plain` has no teacher, `online METHODS` asks it in every step, `offline METHODS` reads, and `at hand METHODS` has the
knowledge in memory already: what is above plain is the methods' own. Methods joined by + share a
step. Sizes are bytes an image and view, beside those of the teacher's neck in fp16.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from paired import environment, interleave, ratio, say, use_cores
from train_step import Bench

METHODS = ("logit+ld", "cwd", "pkd", "score_l2")
GOAL = {"logit+ld": 1.10, "unikd": 1.10}
MAP_GOAL = 1.15
IMAGES = 256  # in the store


class Offline(Bench):
    """Steps that read."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        super().__init__(options)
        self.folder, self.teaches = folder, self.made.teacher()
        self.draw = random.Random(0)

    def steps(self, sets: Sequence[str]) -> tuple[dict[str, Callable[[], float]], dict[str, Any]]:
        """Plain, and per set of methods online and offline; and what each store holds."""
        steps, stores = {"plain": self.made.plain()}, {}
        for name in sets:
            methods = name.split("+")
            online = self.made.distilled(self.teaches, *methods)
            offline = self.made.distilled(self.teaches, *methods)
            store = self._store(name, offline)
            stores[name] = sizes_of(store, methods)
            steps[f"online {name}"] = self.made.step(online)
            steps[f"at hand {name}"] = self.made.step(self._at_hand(offline, methods))
            offline._holder = (offline.detector, self._source(store))
            steps[f"offline {name}"] = self.made.step(offline, partial(self._read, self._reader(store)))
        return steps, stores

    def _at_hand(self, other: Any, methods: Sequence[str]) -> Any:
        """What the methods themselves cost: knowledge is there already."""
        from edgekd.training.engines.batch import batch_of

        module, acting = self.made.distilled(self.teaches, *methods), [True] * len(methods)
        known = other.source.of(list(other.distillers), batch_of(self.made.batch), acting)
        module._holder = (module.detector, _AtHand(known))
        return module

    def _store(self, name: str, module: Any) -> Any:
        import torch

        from edgekd.training.engines.batch import batch_of
        from edgekd.training.knowledge import Online
        from edgekd.training.store.fill import blocks_of
        from edgekd.training.store.places import Folder
        from edgekd.training.store.store import Part, Store
        from edgekd.training.views import View

        methods = list(module.distillers)
        source = Online(methods, [self.teaches] * len(methods))
        options, images = self.options, self.made.batch["img"][:2]
        blocks = blocks_of(methods, source, images, options.classes, options.storage, options.points)
        parts = [Part({"method": part.name}, block) for part, block in zip(methods, blocks, strict=True)]
        store = Store.made(Folder(self.folder / name), {}, parts, IMAGES)
        store.write_index()
        known = source.of(methods, batch_of(self.made.batch), [True] * len(methods))
        packed = [block.pack(one, "") for block, one in zip(blocks, known, strict=True)]
        records = torch.cat(packed, 1).cpu()
        for shard in store.shards([View(0)]):
            rows = [row % len(records) for row in range(shard.first, shard.first + shard.rows)]
            store.write(shard, records[rows].numpy())
        return store

    @staticmethod
    def _reader(store: Any) -> Any:
        from edgekd.training.store.store import Reader

        return Reader(store, range(len(store.parts)))

    def _source(self, store: Any) -> Any:
        from edgekd.training.knowledge import Stored, StoredKnowledge
        from edgekd.training.views import Views

        return Stored(StoredKnowledge(self._reader(store), tuple(range(len(store.parts))), Views(1, 0, 1)))

    def _read(self, reader: Any) -> None:
        """What the loader does beside the images."""
        import numpy as np
        import torch

        from edgekd.training.knowledge import RECORDS
        from edgekd.training.views import View

        records = np.empty((len(self.made.batch["img"]), reader.record_bytes), np.uint8)
        for row in records:
            reader.read(View(0), self.draw.randrange(IMAGES), row)
        self.made.batch[RECORDS] = torch.from_numpy(records).to(self.made.device)


class _AtHand:
    """A source that has it."""

    teachers, told = (), "at hand"

    def __init__(self, known: Any) -> None:
        self.known = known

    def of(self, *_: Any) -> Any:
        return self.known

    def assert_frozen(self) -> None:
        pass


def sizes_of(store: Any, methods: Sequence[str]) -> dict[str, Any]:
    """Bytes an image, and what they would be whole in float32."""
    return {
        name: {"bytes": part.block.size_bytes, "fp32_bytes": 4 * part.block.values}
        for name, part in zip(methods, store.parts, strict=True)
    }


def sizes(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes an image of every method, by storage and points, and of the neck in fp16."""
    from edgekd.detectors.spec import Needs
    from edgekd.distill.packing import Block
    from edgekd.training.distillers import build_distillers
    from edgekd.training.engines.step_times import StepBench, StepSetting, distiller_of
    from edgekd.training.knowledge import Online
    from edgekd.training.store.fill import blocks_of

    classes = tuple(map(str, range(options.classes)))
    bench = StepBench(StepSetting(options.student, options.teacher, options.imgsz, 2, classes=classes))
    teacher, images = bench.teacher(), bench.batch["img"]
    neck = teacher.forward(images[:1], Needs(teacher.spec.taps_of("neck"))).taps
    pyramid = 2 * sum(value[0].numel() for value in neck.values())
    found: dict[str, Any] = {"neck_fp16": pyramid}
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector

    student = UltralyticsDetector(bench.new_student(), options.student)
    for name in options.methods:
        methods = build_distillers([distiller_of(text) for text in name.split("+")], student.spec, {"teacher": teacher})
        source = Online(methods, [teacher] * len(methods))
        for storage, points in (("fp16", 0), ("fp16", 128), ("int8", 128)):
            blocks: list[Block] = blocks_of(methods, source, images, len(classes), storage, points)  # type: ignore[arg-type]
            total = sum(block.size_bytes for block in blocks)
            found[f"{name} {storage} points={points or 'all'}"] = {
                "bytes": total, "neck_over_it": round(pyramid / total, 1)
            }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="yolo11p")
    parser.add_argument("--teacher", default="yolo11m")
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--classes", type=int, default=10, help="with --sizes")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: where other programs are running"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--amp", action="store_true", help="autocast, as the engine does on a GPU")
    parser.add_argument("--storage", choices=["fp32", "fp16", "int8"], default="fp16")
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME[+NAME]")
    parser.add_argument("--sizes", action="store_true", help="bytes alone, no steps")
    parser.add_argument("--pin", action="store_true", help="keep the process on as many cores as it has threads")
    options = parser.parse_args()
    use_cores(options.threads, options.pin)
    from edgekd.training.engines.step_times import warm_up

    started = time.monotonic()
    result: dict[str, Any] = {"benchmark": "offline", "settings": vars(options)}
    if options.sizes:
        result["bytes_an_image"] = sizes(options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            steps, stores = Offline(options, Path(folder)).steps(options.methods)
            say("warming up")
            warm_up(list(steps.values()))
            times = interleave(steps, options.rounds)
        goals = {name: GOAL.get(name, MAP_GOAL) for name in options.methods}
        result |= {
            "environment": environment("torch", "ultralytics"),
            "stores": stores,
            "median_ms": {name: round(1e3 * median(values), 1) for name, values in times.items()},
            "ratios": {
                **{f"offline {name} / plain": {**ratio(times[f"offline {name}"], times["plain"]),
                                               "goal_at_most": goal} for name, goal in goals.items()},
                **{f"offline {name} / at hand": ratio(times[f"offline {name}"], times[f"at hand {name}"])
                   for name in options.methods},
                **{f"online {name} / offline": ratio(times[f"online {name}"], times[f"offline {name}"])
                   for name in options.methods},
            },
        }  # fmt: skip
    print(json.dumps({**result, "seconds": round(time.monotonic() - started, 1)}, indent=2))


if __name__ == "__main__":
    main()
