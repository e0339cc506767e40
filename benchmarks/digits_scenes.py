"""`digits` with the photograph behind each training image in its name, so that scenes can be held out.

    python benchmarks/digits_scenes.py --out runs/digits-scenes         # 800, 400 and 400 images of 96 px
    python benchmarks/search.py --parts proxy --set threads=1 --set 'search.proxy.group=^[^-]*' \
        --set 'data={format: yolo, path: runs/digits-scenes/data.yaml}'

Images and labels are those of `digits`; `coffee-000017.png` is its 000017.png. Prints how many images show which.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path


def main() -> None:
    """Write the set, and rename."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=800)
    given = parser.parse_args()
    from edgekd.data.digits import generate

    generate(given.out, imgsz=96, train=given.train, val=400, test=400, seed=0)
    counted = Counter(photograph(index) for index in range(given.train))
    for index in range(given.train):
        for kind, suffix in (("images", "png"), ("labels", "txt")):
            file = given.out / kind / "train" / f"{index + 1:06d}.{suffix}"
            file.rename(file.with_name(f"{photograph(index)}-{file.name}"))
    for file in (given.out / "digits.json", given.out / "annotations" / "train.json"):
        file.unlink()  # they speak of the old names
    print(json.dumps(dict(sorted(counted.items())), indent=1))


def photograph(index: int) -> str:
    """Behind image `index` of train, by the first random number of its own: see `edgekd.data.digits.draw`."""
    import numpy as np

    from edgekd.data.digits import SOURCES

    names = SOURCES["train"].photographs
    drawn = int(np.random.default_rng([0, list(SOURCES).index("train"), index]).integers(len(names)))
    return Path(names[drawn]).stem.partition("_")[0]  # both of the motorcycle are one scene


if __name__ == "__main__":
    main()
