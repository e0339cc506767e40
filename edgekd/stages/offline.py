"""What `teacher: {knowledge: disk}` means for a recipe: its views, what it cannot be, and whose store it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekd import ranks
from edgekd.detectors.class_map import columns_of
from edgekd.detectors.spec import DenseHead, Needs
from edgekd.distill.adapters import match_branches
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Distiller, Pair, distiller_type
from edgekd.recipe.schema import Recipe
from edgekd.stages.binding import file_hash, hash_of_weights
from edgekd.stages.context import Context
from edgekd.stages.prepared_file import named_files
from edgekd.stages.storable import asked, check_sizes, train_size_px
from edgekd.stages.unlabelled import student_inputs
from edgekd.training.differing import LATER, Later
from edgekd.training.distillers import labels
from edgekd.training.engines.arguments import EngineArguments
from edgekd.training.engines.placement import torch_device
from edgekd.training.engines.replay import versions
from edgekd.training.knowledge import StoredKnowledge
from edgekd.training.store.places import Place, place_of
from edgekd.training.store.store import Reader, Store
from edgekd.training.views import Views

FOLDER = "knowledge"
_MIXING = ("mosaic", "mixup", "cutmix")  # which the engine ends for the last `close_mosaic` epochs
_AUGMENTATION = (
    "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr",
    *_MIXING,
)  # fmt: skip


def views_of(recipe: Recipe) -> Views | None:
    """Those that control and student are shown; None of a recipe whose teachers are asked in every step."""
    teacher = asked(recipe)
    if teacher is None:
        return None
    train = _train(recipe)
    closing = min(train["close_mosaic"], train["epochs"]) if any(train[key] for key in _MIXING) else 0
    return Views(teacher.views, teacher.view_seed, train["epochs"], closing)


def place(context: Context) -> Place:
    """Where the recipe's store lies."""
    teacher = asked(context.bound.recipe)
    assert teacher is not None
    return place_of(teacher.store or str(context.path / FOLDER), Path.cwd())


def described(context: Context) -> str | None:
    """Where a run would take knowledge from, in a line; None where methods are taught online, or not at all.

    Raises:
        InputError: the recipe names a store of something else.
    """
    views, teacher = views_of(context.bound.recipe), asked(context.bound.recipe)
    if views is None or teacher is None:
        return None
    shown, images = views.all(), len(context.data.splits["train"].images)
    kinds = f"{len(shown)} views" + (f", {sum(view.closed for view in shown)} without mosaic" if views.closing else "")
    what = f"knowledge on disk: {kinds} of {images:,} train images"
    store = require_fitting(context)
    if teacher.store is None:
        return f"{what}, written into RUN/{FOLDER}"
    if store is None:
        return f"{what}, not there yet: to be written into {teacher.store}"
    missing, number = len(store.missing(shown)), sum(1 for _ in store.shards(shown))
    state = "complete" if not missing else f"{missing} of {number} shards to be written"
    return f"{what} in {teacher.store}, {state}; {store.record_bytes:,} bytes an image"


def require_fitting(context: Context) -> Store | None:
    """The recipe's store, compared with what is known before anything is prepared or labelled; None if none is there.

    Raises:
        InputError: it is of something else, says what differs; or none can be made.
    """
    if asked(context.bound.recipe) is None:
        return None
    store = ranks.on_main(lambda: Store.at(place(context)))
    if store is None:
        check_sizes(context)
    else:
        required(context, store, part_identities(context, _named(context)), early=True)
    return store


def _named(context: Context) -> dict[str, str | Later]:
    """label of a method that prepares -> hash of the file that it names; one that names none is prepared later."""
    methods, files = context.bound.distillers, named_files(context.bound)
    names = zip(labels([name for name, _ in methods]), methods, strict=True)
    preparing = [label for label, (name, _) in names if distiller_type(name).prepares]
    return {label: file_hash(files.get(label)) or LATER for label in preparing}


def identity(context: Context, *, early: bool = False) -> dict[str, Any]:
    """Everything that decides the images of all views, and how knowledge of them is kept.

    Args:
        early: images without labels may still lack those that the teacher gives them.
    """
    recipe, teacher = context.bound.recipe, asked(context.bound.recipe)
    assert teacher is not None
    train, student = _train(recipe), context.pair.student
    from edgekd.training.engines.shell_trainer import stretches  # imports the engine

    unlabelled = student_inputs(context, early=early).get("unlabelled", ())
    return {
        "data": {
            "class_names": list(context.data.class_names),
            "channels": context.data.channels,
            "train": context.data.splits["train"].content_hash,
            "unlabelled": dict(zip(("images", "labels"), unlabelled, strict=False)),
        },
        "augmentation": {
            "size_px": train_size_px(recipe, student.spec),
            "stretched": stretches(student),
            **{key: train[key] for key in _AUGMENTATION},
            **versions(),
        },
        "view_seed": teacher.view_seed,
        "storage": teacher.storage,
        "points": teacher.points,
    }


def part_identities(context: Context, ready: Mapping[str, str | Later]) -> list[dict[str, Any]]:
    """Per method, everything that decides its knowledge beside the images.

    Args:
        ready: label of a method that prepares -> hash of what its preparation left.
    """
    methods = context.bound.distillers
    names = labels([name for name, _ in methods])
    return [
        _part(context, name, config, ready.get(label)) for label, (name, config) in zip(names, methods, strict=True)
    ]


def stored_knowledge(context: Context, ready: Mapping[str, str]) -> StoredKnowledge | None:
    """What a student's training reads; None of a recipe whose teachers are asked in every step.

    Raises:
        InputError: the store is of something else.
    """
    views = views_of(context.bound.recipe)
    if views is None:
        return None
    store = Store.at(place(context))
    assert store is not None, "the stage before has made it"
    parts = required(context, store, part_identities(context, ready))
    return StoredKnowledge(Reader(store, parts), tuple(parts), views)


def required(context: Context, store: Store, parts: Sequence[Mapping[str, Any]], *, early: bool = False) -> list[int]:
    """Places of the recipe's methods in a store.

    Args:
        early: see `identity`.

    Raises:
        InputError: it is of another teacher, data set, augmentation, method or seed.
    """
    return store.require(identity(context, early=early), parts, f"{context.bound.where}: teacher.store")


def student_knowledge_inputs(context: Context, ready: Mapping[str, str]) -> dict[str, Any]:
    """Of the stage of a student: what it read. Not where: a store that is moved holds what it held."""
    if asked(context.bound.recipe) is None:
        return {}
    return {"knowledge": {**identity(context), "parts": part_identities(context, ready)}}


def _train(recipe: Recipe) -> dict[str, Any]:
    """The engine's arguments with its defaults."""
    return {**EngineArguments.model_validate({}).model_dump(), **recipe.train}


def _part(context: Context, name: str, config: DistillerConfig, prepared: str | Later | None) -> dict[str, Any]:
    kind = distiller_type(name)
    pair = context.pair.of_methods(config.teacher)
    part: Distiller = kind(config, pair)
    needs = part.wiring.teacher
    return {
        "method": name,
        "config": _deciding(kind, config),
        "reads": _needs(needs),
        "teacher": _taught_by(context, config.teacher),
        "prepared": prepared,
        "student": _shared_by(pair) if needs.parts else {},
    }


def _deciding(kind: type[Distiller], config: DistillerConfig) -> dict[str, Any]:
    """Of a method's keys, what decides its knowledge."""
    keys = kind.decided_by
    if keys is None and kind.knowledge is Distiller.knowledge:
        keys = frozenset()  # maps as they are
    elif keys is None:  # of what is prepared its content counts
        keys = frozenset(set(type(config).model_fields) - set(DistillerConfig.model_fields) - {"prepared"})
    content = config.model_dump(mode="json")
    return {key: content[key] for key in sorted(keys)} | {key: bool(content[key]) for key in sorted(kind.switches)}


def _shared_by(pair: Pair) -> dict[str, Any]:
    """What a student's head decides of knowledge of the teacher's head: at which points, and of which branches it is.
    Of maps a student decides only which are read."""
    head, found = pair.student.head, dict[str, Any]()
    if isinstance(head, DenseHead):
        found |= {"point_offset": head.point_offset, "anchors_per_cell": head.anchors_per_cell}
    if isinstance(head, DenseHead) and isinstance(pair.teacher.head, DenseHead):
        found["branches"] = sorted({source for _, source in match_branches(pair.student, pair.teacher)})
    return {"strides": list(getattr(head, "strides", ())), **found}


def _needs(needs: Needs) -> dict[str, Any]:
    return {"taps": [asdict(tap) for tap in needs.taps], "parts": sorted(map(str, needs.parts))}


def _taught_by(context: Context, name: str) -> dict[str, Any]:
    """What decides what a teacher says, wherever its weights lie."""
    bound, sides = context.bound, context.pair.teachers
    if name in bound.recipe.ensembles:
        ensemble = bound.recipe.ensembles[name]
        return {"by": ensemble.by, "of": [_taught_by(context, member) for member in ensemble.of]}
    side = sides[name]
    assert side.recipe is not None
    own = side.recipe.precision is None and torch_device(bound.recipe.train.get("device")).type != "cpu"
    return {
        "model": side.detector.spec.name,
        "weights": hash_of_weights(bound.weights_path(side.recipe)),
        "columns": list(columns_of(side.classes)),
        "runtime": side.recipe.runtime,
        "precision": side.recipe.precision or (f"amp {_train(bound.recipe)['amp']}" if own else "fp32"),
    }
