"""The `data:` section of a recipe, and what it becomes: checked splits with their class names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgekd.data import coco_layout, digits, yolo_layout
from edgekd.data.labels import require_content
from edgekd.data.problems import OnProblem, Problem, ProblemLog
from edgekd.errors import InputError
from edgekd.recipe.schema import SEEDS, PathText
from edgekd.types import Split

_MOST_IMAGES = 1_000_000
MOST_CHANNELS = 64


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DigitsData(_Section):
    """The embedded data set, generated into the run directory."""

    format: Literal["digits"]
    imgsz: int = Field(96, ge=32, le=4096, description="side of the square images in px")
    train: int = Field(800, ge=1, le=_MOST_IMAGES, description="number of training images")
    val: int = Field(200, ge=1, le=_MOST_IMAGES, description="number of validation images")
    test: int = Field(200, ge=1, le=_MOST_IMAGES, description="number of test images")
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of everything that is drawn at random")


class YoloData(_Section):
    """A data set in the YOLO layout."""

    format: Literal["yolo"]
    path: PathText = Field(description="the data.yaml, from the recipe's folder, else the current one")
    on_problem: OnProblem = Field("error", description="error: refuse faulty data; skip: leave faulty parts out")


class CocoFiles(_Section):
    """One split in the COCO layout."""

    images: PathText = Field(description="folder of the images, from the recipe's folder")
    annotations: PathText = Field(description="the JSON file, from the recipe's folder")


class CocoData(_Section):
    """A data set in the COCO layout."""

    format: Literal["coco"]
    train: CocoFiles
    val: CocoFiles
    test: CocoFiles | None = None
    on_problem: OnProblem = Field("error", description="error: refuse faulty data; skip: leave faulty parts out")
    channels: int = Field(3, ge=1, le=MOST_CHANNELS, description="channels that the images are read with")


DataConfig = Annotated[DigitsData | YoloData | CocoData, Field(discriminator="format")]


@dataclass(frozen=True)
class DataSet:
    """Checked splits of one data set; `problems` lists what was left out."""

    class_names: tuple[str, ...]
    channels: int
    splits: dict[str, Split]
    problems: tuple[Problem, ...]

    def as_json(self) -> dict[str, Any]:
        """The content of RUN/data/split.json."""
        return {
            "schema": "edgekd.data/1",
            "class_names": list(self.class_names),
            "channels": self.channels,
            "splits": {
                name: {"images": len(split.images), "content_hash": split.content_hash}
                for name, split in self.splits.items()
            },
            "problems": [problem.as_json() for problem in self.problems],
        }


def load(config: DataConfig, folder: Path, base: Path) -> DataSet:
    """Read the data set that `config` names.

    Args:
        config: the recipe's section.
        folder: RUN/data; nothing is written elsewhere, least of all beside the user's images.
        base: folder that relative paths start from; what is not there is looked for in the current folder.

    Raises:
        InputError: the data is missing, empty or faulty; all kinds of faults at once.
        EnvironmentFault: the disk is full or read-only.
    """
    cache = Path(folder) / "image_facts.json"
    if isinstance(config, DigitsData):
        arguments = config.model_dump(exclude={"format"})
        return _load_yolo(digits.generate(Path(folder) / "digits", **arguments), base, "error", cache)
    if isinstance(config, YoloData):
        return _load_yolo(_found(base, config.path), base, config.on_problem, cache)
    return _load_coco(config, Path(base), cache)


def _found(base: Path, name: str) -> Path:
    """Beside the recipe, else in the current folder; beside the recipe also if it is nowhere, for the message."""
    beside = Path(base) / name
    return Path(name) if Path(name).exists() and not beside.exists() else beside


def _load_yolo(path: Path, base: Path, on_problem: OnProblem, cache: Path) -> DataSet:
    data = yolo_layout.read_data_yaml(path, base)
    log = ProblemLog(dict.fromkeys(data.sources, str(path)))
    splits = yolo_layout.read_splits(data, log, cache)
    return _settled(data.class_names, data.channels, splits, log, on_problem)


def _load_coco(config: CocoData, base: Path, cache: Path) -> DataSet:
    given = {"train": config.train, "val": config.val, "test": config.test}
    files: dict[str, coco_layout.CocoFile] = {}
    faults: list[str] = []
    for split, part in given.items():
        if part is not None:
            try:
                files[split] = coco_layout.read_file(split, _found(base, part.images), _found(base, part.annotations))
            except InputError as error:
                faults.extend(error.problems)
    if faults:
        raise InputError(*faults)
    names = coco_layout.class_names(files)
    log = ProblemLog({split: str(file.path) for split, file in files.items()})
    splits = {split: coco_layout.read_split(split, file, config.channels, log, cache) for split, file in files.items()}
    return _settled(names, config.channels, splits, log, config.on_problem)


def _settled(
    names: tuple[str, ...], channels: int, splits: dict[str, Split], log: ProblemLog, on_problem: OnProblem
) -> DataSet:
    found = log.settle(on_problem)
    for split in splits.values():
        require_content(split, log)
    return DataSet(class_names=names, channels=channels, splits=splits, problems=found)
