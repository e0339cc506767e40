"""Which container holds knowledge: random reads and size of the same real records in five of them.

    pip install lmdb 'zarr>=3'
    python benchmarks/knowledge_containers.py                    # digits at 96 px, a minute
    python benchmarks/knowledge_containers.py --imgsz 640 --images 64

Records are what `logit`, `ld` and `score_l2` know of images of the embedded data set by its teacher, whole in fp16 and
put together per image. Each container is written, closed, opened anew, and asked for single images in random order, by
one process, from the page cache; what is read is compared with what was written. `read_us` is the processor's time of a
read; opening and the first read are told apart, since they count in every worker. `shards` is what edgekd writes and
checks; `shards mapped` the same files by safetensors' own memory map and without checksums. `zarr` holds one array
(images, bytes): a chunk is an image, 64 of them a shard, with zstd or nothing. `tar` is an indexed tar as WebDataset
has it, read at random, which WebDataset itself does not do.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from paired import ROOT, environment, say, use_cores

Read = Callable[[int], Any]
READS = 400


def records(options: argparse.Namespace, folder: Path) -> tuple[Any, Any]:
    """(images, bytes) uint8, and how they are laid out."""
    import torch

    from edgekd.data.digits import CLASS_NAMES, generate
    from edgekd.data.letterbox import letterbox, load_image
    from edgekd.detectors.class_map import ClassMap
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.outputs import Batch
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector
    from edgekd.distill.contract import distiller_type
    from edgekd.distill.packing import Block
    from edgekd.training.distillers import build_distillers
    from edgekd.training.knowledge import Online
    from edgekd.training.teacher import Teacher

    generate(folder / "digits", imgsz=96, train=options.images, val=8, test=8, seed=0)
    weights = ROOT / "recipes" / "weights" / "digits-yolo11n.safetensors"
    teacher = Teacher(
        UltralyticsDetector.opened(Asked("yolo11n", weights, CLASS_NAMES, 3, "teacher")).frozen(),
        ClassMap.identity(len(CLASS_NAMES)),
    )
    student = UltralyticsDetector.opened(Asked("yolo11p", None, CLASS_NAMES, 3, "student"))
    configs = [(name, distiller_type(name).config_type.model_validate({})) for name in ("logit", "ld", "score_l2")]
    methods = build_distillers(configs, student.spec, {"teacher": teacher})
    source, rows, blocks = Online(methods, [teacher] * 3), [], []
    none = torch.zeros(0, dtype=torch.int64)
    for path in sorted((folder / "digits" / "images" / "train").iterdir()):
        image, _ = letterbox(load_image(path, 3), (options.imgsz, options.imgsz))
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        found = source.of(methods, Batch(pixels, none, none, torch.zeros(0, 4)), [True] * 3)
        blocks = blocks or [
            Block.of(one, lambda _: None, "fp16", 0) for one in found if one is not None
        ]  # fmt: skip
        rows.append(torch.cat([block.pack(one, "") for block, one in zip(blocks, found, strict=True)], 1))  # type: ignore[arg-type]
    return torch.cat(rows).numpy(), blocks


def shards(data: Any, folder: Path, blocks: Any) -> tuple[Path, Callable[[], Read]]:
    import numpy as np

    from edgekd.training.store.places import Folder
    from edgekd.training.store.store import Part, Reader, Store
    from edgekd.training.views import View

    parts = [Part({"method": str(place)}, block) for place, block in enumerate(blocks)]
    store = Store.made(Folder(folder), {}, parts, len(data))
    store.write_index()
    for shard in store.shards([View(0)]):
        store.write(shard, data[shard.first : shard.first + shard.rows])

    def opened() -> Read:
        anew = Store.at(Folder(folder))
        assert anew is not None
        reader = Reader(anew, range(len(parts)))

        def read(index: int) -> Any:
            reader.read(View(0), index, target := np.empty(data.shape[1], np.uint8))
            return target

        return read

    return folder, opened


def mapped(data: Any, folder: Path, blocks: Any) -> tuple[Path, Callable[[], Read]]:
    path, _ = shards(data, folder, blocks)

    def opened() -> Read:
        from safetensors import safe_open

        files = sorted(path.rglob("*.safetensors"))
        slices = [safe_open(file, "np").get_slice("records") for file in files]
        rows = slices[0].get_shape()[0]
        return lambda index: slices[index // rows][index % rows]

    return path, opened


def lmdb(data: Any, folder: Path, _: Any) -> tuple[Path, Callable[[], Read]]:
    import lmdb
    import numpy as np

    with lmdb.open(str(folder), map_size=1 << 34) as base, base.begin(write=True) as writing:
        for index, row in enumerate(data):
            writing.put(f"{index:08d}".encode(), row.tobytes())

    def opened() -> Read:
        reading = lmdb.open(str(folder), readonly=True, lock=False, readahead=False).begin(buffers=True)
        return lambda index: np.frombuffer(reading.get(f"{index:08d}".encode()), np.uint8).copy()

    return folder, opened


def zarr(compressed: bool) -> Callable[[Any, Path, Any], tuple[Path, Callable[[], Read]]]:
    def written(data: Any, folder: Path, _: Any) -> tuple[Path, Callable[[], Read]]:
        import zarr

        codecs = zarr.codecs.ZstdCodec(level=3) if compressed else None
        array = zarr.create_array(
            str(folder), shape=data.shape, dtype="uint8", chunks=(1, data.shape[1]),
            shards=(64, data.shape[1]), compressors=codecs,
        )  # fmt: skip
        array[:] = data

        def opened() -> Read:
            reading = zarr.open_array(str(folder), mode="r")
            return lambda index: reading[index]

        return folder, opened

    return written


def tar(data: Any, folder: Path, _: Any) -> tuple[Path, Callable[[], Read]]:
    import numpy as np

    folder.mkdir()
    path = folder / "000000.tar"
    with tarfile.open(path, "w") as writing:
        for index, row in enumerate(data):
            entry = tarfile.TarInfo(f"{index:08d}.bin")
            entry.size = len(row)
            writing.addfile(entry, io.BytesIO(row.tobytes()))

    def opened() -> Read:
        with tarfile.open(path) as reading:
            places = [(entry.offset_data, entry.size) for entry in reading]
        stream = path.open("rb")

        def read(index: int) -> Any:
            stream.seek(places[index][0])
            return np.frombuffer(stream.read(places[index][1]), np.uint8)

        return read

    return folder, opened


CONTAINERS = {
    "shards": shards, "shards mapped": mapped, "lmdb": lmdb, "zarr zstd": zarr(True), "zarr plain": zarr(False),
    "tar": tar,
}  # fmt: skip


def measured(name: str, data: Any, blocks: Any, folder: Path, order: list[int]) -> dict[str, Any]:
    """One container."""
    import numpy as np

    started = time.perf_counter()
    path, opened = CONTAINERS[name](data, folder, blocks)
    writing = time.perf_counter() - started
    started = time.perf_counter()
    read = opened()
    first = read(order[0])
    opening = time.perf_counter() - started
    assert np.array_equal(np.asarray(first).reshape(-1), data[order[0]])
    seconds = []
    for index in order:
        started = time.process_time()
        found = read(index)
        seconds.append(time.process_time() - started)
        assert np.array_equal(np.asarray(found).reshape(-1), data[index])
    size = sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())
    say(f"{name}: {1e6 * median(seconds):.0f} us a read")
    return {
        "write_s": round(writing, 2), "open_and_first_ms": round(1e3 * opening, 2),
        "read_us": round(1e6 * median(seconds), 1), "bytes_over_records": round(size / data.nbytes, 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--only", nargs="+", choices=list(CONTAINERS), default=list(CONTAINERS))
    options = parser.parse_args()
    use_cores(1, False)
    folder = Path(tempfile.mkdtemp(prefix="containers-"))
    try:
        data, blocks = records(options, folder)
        draw = random.Random(0)
        order = [draw.randrange(len(data)) for _ in range(READS)]
        rows = {name: measured(name, data, blocks, folder / name.replace(" ", "-"), order) for name in options.only}
    finally:
        shutil.rmtree(folder)
    print(json.dumps({
        "benchmark": "knowledge_containers", "settings": vars(options), "record_bytes": data.shape[1],
        "environment": environment("torch", "safetensors"), "containers": rows,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
