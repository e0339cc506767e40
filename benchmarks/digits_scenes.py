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

SEED = 0


def main() -> None:
    """Write the set, and rename."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=800)
    given = parser.parse_args()
    from edgekd.data.digits import generate

    generate(given.out, imgsz=96, train=given.train, val=400, test=400, seed=SEED)
    counted = Counter(scene(index) for index in range(given.train))
    for index in range(given.train):
        for kind, suffix in (("images", "png"), ("labels", "txt")):
            file = given.out / kind / "train" / f"{index + 1:06d}.{suffix}"
            file.rename(file.with_name(f"{scene(index)}-{file.name}"))
    for file in (given.out / "digits.json", given.out / "annotations" / "train.json"):
        file.unlink()  # they speak of the old names
    print(json.dumps(dict(sorted(counted.items())), indent=1))


def scene(index: int) -> str:
    """What image `index` of train shows; both photographs of the motorcycle are one scene."""
    from edgekd.data.digits import photograph_of

    return Path(photograph_of("train", index, seed=SEED)).stem.partition("_")[0]


if __name__ == "__main__":
    main()
