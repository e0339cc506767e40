"""What a preparation's file says it was made for, and whether that is what a recipe needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd.detectors import described
from edgekd.distill.config import DistillerConfig, PreparedConfig
from edgekd.distill.contract import distiller_type
from edgekd.distill.preparation import Preparation
from edgekd.errors import InputError
from edgekd.stages.binding import Bound, file_hash
from edgekd.stages.context import Context
from edgekd.training.differing import first_difference
from edgekd.training.distillers import labels

SCHEMA = "edgekd.prepared/1"
_SHOWN = 5  # names of classes


def file_of(bound: Bound, config: DistillerConfig) -> Path | None:
    """The file that a method names: beside the recipe, else in the current folder."""
    if not isinstance(config, PreparedConfig) or config.prepared is None:
        return None
    beside = bound.base / config.prepared
    return beside if beside.exists() else Path(config.prepared)


def named_files(bound: Bound) -> dict[str, Path]:
    """label of a method -> the file that it names, of those that name one."""
    named = zip(labels([name for name, _ in bound.distillers]), bound.distillers, strict=True)
    return {label: path for label, (_, config) in named if (path := file_of(bound, config))}


def description(context: Context, name: str, config: DistillerConfig, preparation: Preparation) -> dict[str, Any]:
    """What a preparation is made for: the header of its file."""
    content = config.model_dump(mode="json")
    detector = context.pair.teachers[config.teacher].detector
    return {
        "schema": SCHEMA,
        "method": name,
        "config": {key: content[key] for key in preparation.depends_on},
        "teacher": {"name": detector.spec.name, "weights": _weights(context.bound, config.teacher)},
        "class_names": list(context.data.class_names),
        "train_images": context.data.splits["train"].content_hash,
    }


def check_prepared(context: Context) -> None:
    """Refuse files of earlier preparations that do not belong to this recipe, before anything is trained.

    Raises:
        InputError: one line per file, saying what differs.
    """
    methods, problems = context.bound.distillers, []
    named = labels([name for name, _ in methods])
    for index, (name, config) in enumerate(methods):
        path = file_of(context.bound, config)
        if path is None:
            continue
        preparation = distiller_type(name)(config, context.pair.of_methods(config.teacher)).preparation()
        place = f"{context.bound.where}: distill[{index}].prepared: {path}"
        problem = problem_of(path, description(context, name, config, preparation))
        if problem:
            problems.append(f"{place}: {problem}; name another file, or leave the key out: {named[index]} is then "
                            "prepared here")  # fmt: skip
    if problems:
        raise InputError(*problems)


def _weights(bound: Bound, name: str) -> Any:
    """sha256 of a teacher's weights; of an ensemble those of its members, by name."""
    if name in bound.recipe.ensembles:
        return {member: _weights(bound, member) for member in bound.recipe.ensembles[name].of}
    recipe = bound.recipe.teachers.get(name) or bound.recipe.teacher
    assert recipe is not None
    return file_hash(bound.weights_path(recipe))


def problem_of(path: Path, wanted: Mapping[str, Any]) -> str | None:
    """What is wrong with a file; None if it is what the recipe would make.

    Args:
        wanted: of `description`.
    """
    if not path.is_file():
        return "there is no such file"
    found = described.header_of(path)
    if found is None or found.get("schema") != SCHEMA:
        return "is no file that 'edgekd prepare' left (RUN/prepare/METHOD/prepared.safetensors)"
    differing = list(_differing(found, wanted))
    return f"was prepared for {'; '.join(differing)}" if differing else None


def _differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    if found.get("method") != wanted["method"]:
        yield f"method {found.get('method')}, here it is {wanted['method']}"
        return
    theirs, ours = found.get("teacher") or {}, wanted["teacher"]
    if theirs.get("weights") != ours["weights"]:
        yield f"teacher {_named(theirs)}, here it is {_named(ours)}"
    if found.get("class_names") != wanted["class_names"]:
        names = [list(one or ()) for one in (found.get("class_names"), wanted["class_names"])]
        first = first_difference(*names)
        yield f"classes {_some(names[0], first)}, here they are {_some(names[1], first)}"
    elif found.get("train_images") != wanted["train_images"]:
        yield "other train images or labels"
    config = found.get("config") or {}
    for key in {**config, **wanted["config"]}:
        if config.get(key) != wanted["config"].get(key):
            yield f"{key}: {config.get(key)}, here it is {wanted['config'].get(key)}"


def _named(teacher: Mapping[str, Any]) -> str:
    return f"{teacher.get('name')} ({_hashes(teacher.get('weights'))})"


def _hashes(weights: Any) -> str:
    """Of an ensemble those of its members, by name."""
    if isinstance(weights, Mapping):
        return ", ".join(f"{name} {_hashes(one)}" for name, one in weights.items())
    return str(weights)[:12]


def _some(names: Sequence[Any], first: int) -> str:
    """Some names, from the `first` on that differs where that lies far behind, and how many there are."""
    begin = first if first >= _SHOWN else 0
    shown = [*(["..."] if begin else []), ", ".join(map(str, names[begin : begin + _SHOWN]))]
    shown += ["..."] if len(names) > begin + _SHOWN else []
    return f"{' '.join(part for part in shown if part)} ({len(names)})"
