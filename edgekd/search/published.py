"""AP on COCO that authors have published of their models: the file `coco_ap.yaml` beside this one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from edgekd.recipe.yaml_text import read_mapping

FILE = Path(__file__).with_name("coco_ap.yaml")


@cache
def published() -> dict[str, float]:
    """Name of a model -> AP in percent on COCO val2017 at 640 px."""
    blocks = read_mapping(FILE)["sources"]
    return {str(model): float(ap) for block in blocks for model, ap in block["ap"].items()}


def sources() -> list[tuple[str, str]]:
    """(title, address) of each source."""
    return [(block["source"], block["url"]) for block in read_mapping(FILE)["sources"]]
