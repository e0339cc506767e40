"""The recipe's `train:` section: the engine's arguments and edgekd's own, checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekd import ranks
from edgekd.errors import InputError, unknown
from edgekd.ranks.environment import host_and_port
from edgekd.recipe.schema import QuantizeRecipe
from edgekd.training.allowed import in_words
from edgekd.training.engines.arguments import REFUSED, EngineArguments


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


class TrainArguments(EngineArguments, OwnArguments):
    """Every key of `train:`."""


_DISTILL_FORBIDS = {"compile": "the distillation taps need the eager model"}
# Keys of `quantize.train` that would be set twice, or would make the stage another one than that of the student.
_ELSEWHERE = {
    **{key: f"train.{key}" for key in OwnArguments.model_fields},
    "epochs": "quantize.epochs", "lr0": "quantize.lr0", "imgsz": "train.imgsz", "device": "train.device",
}  # fmt: skip


def json_schemas() -> tuple[dict[str, Any], dict[str, Any]]:
    """JSON Schemas of `train` and of `quantize.train`."""
    whole, part = TrainArguments.model_json_schema(), EngineArguments.model_json_schema()
    part["properties"] = {key: value for key, value in part["properties"].items() if key not in _ELSEWHERE}
    return whole, part


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
    problems = _meeting_problems(own, where)
    if train.get("compile") and own.get("activation_checkpointing"):
        problems.append(f"{where}: train.activation_checkpointing: must be off with train.compile; choose one")
    for key, value in train.items():
        problems += _problems_of(key, value, distilling, f"{where}: train.{key}", len(problems))
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
        "mosaic": 0.0, "close_mosaic": 0, "mixup": 0.0, "cutmix": 0.0,
    }  # fmt: skip
    chosen = {"epochs": quantize.epochs, "lr0": quantize.lr0}
    return {**split_arguments(train)[0], **calm, **quantize.train, **chosen}


def check_quantization_arguments(train: Mapping[str, Any], quantize: QuantizeRecipe, where: str) -> None:
    """Check names and values of `quantize.train`.

    Raises:
        InputError: one line per problem.
    """
    problems = []
    for key, value in quantize.train.items():
        place = f"{where}: quantize.train.{key}"
        if key in _ELSEWHERE:
            problems.append(f"{place}: is not for this section; use {_ELSEWHERE[key]} instead")
        else:
            problems += _problems_of(key, value, True, place, len(problems))
    own = {key: value for key, value in train.items() if key in OwnArguments.model_fields}
    if (
        not problems
        and "batch" in quantize.train
        and not any(_problems_of(key, value, True, "") for key, value in own.items())
    ):
        found = _world_problems({**train, **quantize.train}, OwnArguments(**own).processes, where)
        problems = [problem.replace(": train.", ": quantize.train.", 1) for problem in found]
    if problems:
        raise InputError(*problems)


def _problems_of(key: str, value: Any, distilling: bool, place: str, before: int = 0) -> list[str]:
    """What is wrong with one argument, behind some problems of others."""
    if key in REFUSED:
        return [f"{place}: {REFUSED[key]}"]
    if key not in TrainArguments.model_fields:
        return [f"{place}: {unknown('engine argument', key, TrainArguments.model_fields, before=before)}"]
    try:
        TrainArguments.model_validate({key: value})
    except ValidationError:
        return [f"{place}: got {value!r}, allowed: {_allowed(key)}"]
    if distilling and value and key in _DISTILL_FORBIDS:
        return [f"{place}: must be off when distilling: {_DISTILL_FORBIDS[key]}"]
    return []


def _allowed(key: str) -> str:
    """Types and bounds of an argument in words."""
    schema = TrainArguments.model_json_schema()["properties"][key]
    words = in_words(schema)
    return f"{words} ({schema['description']})" if "description" in schema else words


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
    return problems


def _meeting_problems(own: Mapping[str, Any], where: str) -> list[str]:
    """What is wrong with where several nodes meet."""
    try:
        if isinstance(own.get("rendezvous"), str):
            host_and_port(own["rendezvous"])
    except InputError as error:
        return [f"{where}: {problem}" for problem in error.problems]
    return []
