"""The recipe's `train:` section: the engine's arguments and edgekd's own, checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekd import ranks
from edgekd.detectors.engine_guard import guard
from edgekd.errors import InputError, unknown
from edgekd.ranks.environment import host_and_port
from edgekd.recipe.schema import QuantizeRecipe


class OwnArguments(BaseModel):
    """Keys of `train:` that are edgekd's, not the engine's: how to train, never what comes out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    checkpoint_minutes: float = Field(
        default=15.0, gt=0, description="save the training state this often within an epoch"
    )
    nodes: int | None = Field(default=None, ge=1, description="machines that train together")
    gpus_per_node: int | None = Field(default=None, ge=1, description="GPUs of each; on a CPU, processes")
    loggers: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(
        default_factory=list, description="loggers of the engine that watch the training, from inside the run directory"
    )
    activation_checkpointing: bool = Field(
        default=False, description="less memory for more time: activations are computed anew in the backward pass"
    )
    rendezvous: str | None = Field(default=None, description="host:port of one of several nodes, where they meet")

    @property
    def processes(self) -> int:
        """Processes that train together, as far as the recipe says."""
        return (self.nodes or 1) * (self.gpus_per_node or 1)


# What edgekd decides itself, with the key of the recipe that serves instead.
_OWNED = {
    "model": "student.model", "pretrained": "student.weights", "data": "data", "seed": "seed",
    "distill_model": "teacher", "dis": "distill[].weight", "nms": "student.head", "task": "nothing (detect)",
    "mode": "nothing (train)", "project": "--out", "name": "--out", "exist_ok": "--out", "save_dir": "--out",
    "resume": "nothing (a run goes on by itself)", "cfg": "train", "verbose": "nothing",
    "quantize": "nothing (see export)", "single_cls": "data", "val": "nothing (always on)",
    "save": "nothing (always on)", "time": "epochs (what stops by the clock cannot be compared or resumed)",
}  # fmt: skip


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_count(item) for item in value)


def _is_several(device: Any) -> bool:
    """The engine would launch its own distributed training, which deletes the run's folder when it ends."""
    return (isinstance(device, (list, tuple)) and len(device) > 1) or (isinstance(device, str) and "," in device)


_OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop")
# Values that the engine would accept and misread, or meet with a traceback: key -> (test, what is allowed).
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "batch": (lambda value: _is_count(value) and value >= 1, "a number of images, 1 or more"),
    "imgsz": (lambda value: _is_count(value) and value >= 32 and value % 32 == 0, "a multiple of 32"),
    "workers": (_is_count, "a number of processes, 0 or more"),
    "optimizer": (lambda value: str(value).lower() in {name.lower() for name in _OPTIMIZERS}, ", ".join(_OPTIMIZERS)),
    "cache": (lambda value: value in (True, False, "ram", "disk"), "true, false, ram or disk"),
    "freeze": (lambda value: _is_count(value) or _is_counts(value), "a number of layers, or a list of layer numbers"),
    "device": (
        lambda value: not _is_several(value),
        "one device, e.g. 0 or cpu; for several GPUs leave it out and set train.gpus_per_node",
    ),
}
_DISTILL_FORBIDS = {"compile": "the distillation taps need the eager model"}


def split_arguments(train: Mapping[str, Any]) -> tuple[dict[str, Any], OwnArguments]:
    """The engine's arguments, and edgekd's own with their defaults; `check_arguments` has seen them before."""
    own = {key: value for key, value in train.items() if key in OwnArguments.model_fields}
    return {key: value for key, value in train.items() if key not in own}, OwnArguments(**own)


def check_arguments(train: Mapping[str, Any], distilling: bool, where: str) -> None:
    """Check names and values.

    Raises:
        InputError: one line per problem.
    """
    own = {key: value for key, value in train.items() if key in OwnArguments.model_fields}
    problems = _own_problems(own, where)
    if train.get("compile") and own.get("activation_checkpointing"):
        problems.append(f"{where}: train.activation_checkpointing: must be off with train.compile; choose one")
    problems += [
        problem
        for key, value in train.items()
        if key not in own
        for problem in _problems_of(key, value, distilling, f"{where}: train.{key}")
    ]
    if not problems:
        problems = _world_problems(train, OwnArguments(**own).processes, where)
    if problems:
        raise InputError(*problems)


def quantization_arguments(train: Mapping[str, Any], quantize: QuantizeRecipe) -> dict[str, Any]:
    """The engine's arguments for a few epochs under fake quantisation, that start from a trained student.

    Those of the recipe's `train`, but with a small learning rate that needs no warm-up, and images as they are.
    """
    calm = {
        "optimizer": "AdamW", "lrf": 0.1, "warmup_epochs": 0.0, "patience": 0, "freeze": None, "compile": False,
        "mosaic": 0.0, "close_mosaic": 0, "mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0,
    }  # fmt: skip
    chosen = {"epochs": quantize.epochs, "lr0": quantize.lr0}
    return {**split_arguments(train)[0], **calm, **quantize.train, **chosen}


# Keys of `quantize.train` that would be set twice, or would make the stage another one than that of the student.
_ELSEWHERE = {"epochs": "quantize.epochs", "lr0": "quantize.lr0", "imgsz": "train.imgsz", "device": "train.device"}


def check_quantization_arguments(train: Mapping[str, Any], quantize: QuantizeRecipe, where: str) -> None:
    """Check names and values of `quantize.train`.

    Raises:
        InputError: one line per problem.
    """
    elsewhere = {**{key: f"train.{key}" for key in OwnArguments.model_fields}, **_ELSEWHERE}
    problems = []
    for key, value in quantize.train.items():
        place = f"{where}: quantize.train.{key}"
        if key in elsewhere:
            problems.append(f"{place}: is not for this section; use {elsewhere[key]} instead")
        else:
            problems += _problems_of(key, value, True, place)
    own = {key: value for key, value in train.items() if key in OwnArguments.model_fields}
    if not problems and "batch" in quantize.train and not _own_problems(own, where):
        found = _world_problems({**train, **quantize.train}, OwnArguments(**own).processes, where)
        problems = [problem.replace(": train.", ": quantize.train.", 1) for problem in found]
    if problems:
        raise InputError(*problems)


def _problems_of(key: str, value: Any, distilling: bool, place: str) -> list[str]:
    """What is wrong with one argument of the engine."""
    guard()
    from ultralytics.cfg import DEFAULT_CFG_DICT, check_cfg

    allowed = set(DEFAULT_CFG_DICT) - set(_OWNED)
    if key in _OWNED:
        return [f"{place}: edgekd sets this itself; use {_OWNED[key]} instead"]
    if key not in allowed:
        return [f"{place}: {unknown('engine argument', key, allowed | set(OwnArguments.model_fields))}"]
    if value is not None and key in _ALLOWED and not _ALLOWED[key][0](value):
        return [f"{place}: got {value!r}, allowed: {_ALLOWED[key][1]}"]
    if distilling and value and key in _DISTILL_FORBIDS:
        return [f"{place}: must be off when distilling: {_DISTILL_FORBIDS[key]}"]
    return _value_problems(check_cfg, key, value, place)


def _world_problems(train: Mapping[str, Any], stated: int, where: str) -> list[str]:
    """What several processes cannot share, however sound it is for one."""
    size = max(stated, ranks.size())
    if size == 1:
        return []
    problems = []
    batch, device = train.get("batch") or 16, train.get("device")
    if batch % size:
        fitting = f"{batch - batch % size} or {batch + size - batch % size}" if batch > size else str(size)
        problems.append(f"{where}: train.batch: got {batch}, of which {size} processes get equal shares; try {fitting}")
    if device not in (None, "", "cpu", "cuda"):
        problems.append(
            f"{where}: train.device: got {device!r}, but {size} processes take a GPU each; leave it out, or set cpu"
        )
    if train.get("rect"):
        problems.append(f"{where}: train.rect: must be off for {size} processes: it groups images of one shape")
    return problems


def _own_problems(own: Mapping[str, Any], where: str) -> list[str]:
    try:
        rendezvous = OwnArguments(**own).rendezvous
        if rendezvous is not None:
            host_and_port(rendezvous)
    except InputError as error:
        return [f"{where}: {problem}" for problem in error.problems]
    except ValidationError as error:
        return [
            f"{where}: train.{'.'.join(str(part) for part in found['loc'])}: {found['msg']}, got {found['input']!r}"
            for found in error.errors()
        ]
    return []


def _value_problems(check: Any, key: str, value: Any, place: str) -> list[str]:
    try:
        check({key: value}, hard=True)
    except (TypeError, ValueError) as error:
        return [f"{place}: {error}"]
    return []
