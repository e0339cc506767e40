"""The `data:` section of a recipe, and what it becomes: checked splits with their class names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgekd.data import coco_layout, digits, unlabelled, yolo_layout
from edgekd.data.data_yaml import MOST_CHANNELS, read_data_yaml
from edgekd.data.labels import Checked, content_fault
from edgekd.data.problems import OnProblem, Problem, ProblemLog
from edgekd.data.summary import SplitSummary, summarise
from edgekd.data.unlabelled import Unlabelled, UnlabelledData
from edgekd.errors import InputError
from edgekd.recipe.detectors import SEEDS, PathText
from edgekd.types import Split

_MOST_IMAGES = 1_000_000
_ON_PROBLEM = (
    "error: refuse faulty data; clip: clip boxes that stick out of their image and are mostly inside, refuse the rest; "
    "skip: clip these, and leave images with other faults out"
)
_UNLABELLED = "more images for the student, without labels"


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
    unlabelled: UnlabelledData | None = Field(None, description=_UNLABELLED)


class YoloData(_Section):
    """A data set in the YOLO layout."""

    format: Literal["yolo"]
    path: PathText = Field(description="the data.yaml, from the recipe's folder, else the current one")
    on_problem: OnProblem = Field("error", description=_ON_PROBLEM)
    unlabelled: UnlabelledData | None = Field(None, description=_UNLABELLED)


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
    on_problem: OnProblem = Field("error", description=_ON_PROBLEM)
    channels: int = Field(3, ge=1, le=MOST_CHANNELS, description="channels that the images are read with")
    unlabelled: UnlabelledData | None = Field(None, description=_UNLABELLED)


DataConfig = Annotated[DigitsData | YoloData | CocoData, Field(discriminator="format")]


@dataclass(frozen=True)
class DataSet:
    """Checked splits of one data set.

    Attributes:
        problems: what was clipped, left out or is worth knowing, by split and kind.
        summaries: what each split holds.
        warnings: what is wrong with the set as a whole, a sentence each.
        unlabelled: images without labels beside it.
        category_ids: how files in COCO's form call the classes, in their order.
    """

    class_names: tuple[str, ...]
    channels: int
    splits: dict[str, Split]
    problems: tuple[Problem, ...]
    summaries: dict[str, SplitSummary]
    warnings: tuple[str, ...]
    unlabelled: Unlabelled | None = None
    category_ids: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The content of RUN/data/split.json."""
        more = {} if self.unlabelled is None else {"unlabelled": self.unlabelled.as_json()}
        return {
            **more,
            "schema": "edgekd.data/2",
            "class_names": list(self.class_names),
            "channels": self.channels,
            "splits": {name: summary.as_json() for name, summary in self.summaries.items()},
            "problems": [problem.as_json() for problem in self.problems],
            "warnings": list(self.warnings),
        }


def notices(record: Mapping[str, Any]) -> list[str]:
    """What the user should know of a data set, a sentence each, the set as a whole first.

    Args:
        record: the content of RUN/data/split.json.
    """
    found = [str(sentence) for sentence in record.get("warnings") or []]
    for problem in record.get("problems") or []:
        examples = [str(example) for example in problem.get("examples") or []]
        shown = f", e.g. {', '.join(examples)}" if examples else ""
        handled = f" ({problem['handled']})" if problem.get("handled") else ""
        found.append(f"{problem.get('split')}: {problem.get('kind')}: {problem.get('count')} found{handled}{shown}")
    return found


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
    found = _labelled(config, folder, base, cache)
    if config.unlabelled is None:
        return found
    more = unlabelled.read(_found(base, config.unlabelled.images), found.splits, found.channels, cache)
    problems, warnings = (*found.problems, *more.problems), (*found.warnings, *more.warnings)
    return replace(found, problems=problems, warnings=warnings, unlabelled=more)


def _labelled(config: DataConfig, folder: Path, base: Path, cache: Path) -> DataSet:
    if isinstance(config, DigitsData):
        arguments = config.model_dump(exclude={"format", "unlabelled"})
        return _load_yolo(digits.generate(Path(folder) / "digits", **arguments), base, "error", cache)
    if isinstance(config, YoloData):
        return _load_yolo(_found(base, config.path), base, config.on_problem, cache)
    return _load_coco(config, Path(base), cache)


def _found(base: Path, name: str) -> Path:
    """Beside the recipe, else in the current folder; beside the recipe also if it is nowhere, for the message."""
    beside = Path(base) / name
    return Path(name) if Path(name).exists() and not beside.exists() else beside


def _load_yolo(path: Path, base: Path, on_problem: OnProblem, cache: Path) -> DataSet:
    data = read_data_yaml(path, base)
    log = ProblemLog(dict.fromkeys(data.sources, str(path)))
    checked = yolo_layout.read_splits(data, log, cache)
    return _settled(data.class_names, data.channels, checked, log, on_problem)


def _load_coco(config: CocoData, base: Path, cache: Path) -> DataSet:
    given = {"train": config.train, "val": config.val, "test": config.test}
    files: dict[str, coco_layout.CocoFile] = {}
    faults: list[str] = []
    warnings: list[str] = []
    for split, part in given.items():
        if part is not None:
            images, annotations = _found(base, part.images), _found(base, part.annotations)
            missing = [path for path in (images, annotations) if not path.exists()]
            if split == "test" and missing:
                warnings.append(f"test: {missing[0]} does not exist; no stage uses test, so it is left out")
                continue
            try:
                files[split] = coco_layout.read_file(split, images, annotations)
            except InputError as error:
                faults.extend(error.problems)
    if faults:
        raise InputError(*faults)
    coco_layout.require_same_categories(files)
    log = ProblemLog({split: str(file.path) for split, file in files.items()})
    for warning in warnings:
        log.warn(warning)
    files = coco_layout.without_root(files, log)
    checked = coco_layout.read_splits(files, config.channels, log, cache)
    categories = files["train"].categories
    found = _settled(tuple(categories.values()), config.channels, checked, log, config.on_problem)
    return replace(found, category_ids=tuple(categories))


def _settled(
    names: tuple[str, ...], channels: int, checked: dict[str, Checked], log: ProblemLog, on_problem: OnProblem
) -> DataSet:
    """Refuse what `on_problem` does not allow, and splits of which nothing is left."""
    test = checked.get("test")
    if test is not None and test.is_absent:
        dropped = log.drop("test")
        found = f" ({'; '.join(str(problem) for problem in dropped)})" if dropped else ""
        log.warn(f"test: {content_fault(test)}{found}; no stage uses test, so it is left out")
        del checked["test"]
    log.settle(on_problem)
    faults = []
    for name, part in checked.items():
        if fault := content_fault(part):
            causes = [f"{log.sources[name]}: {problem}" for problem in log.of_split(name)]
            faults += [f"{log.sources[name]}: {name}: {fault}", *causes]
    if faults:
        raise InputError(*faults)
    summaries = summarise(checked, names, log)
    splits = {name: part.split for name, part in checked.items()}
    numbers = tuple(range(len(names)))
    problems, warnings = log.settle(on_problem), tuple(log.warnings)
    return DataSet(names, channels, splits, problems, summaries, warnings, category_ids=numbers)
