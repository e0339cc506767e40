"""Schedules of methods beside the training that they run in: one that never comes to act must not cost a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgekd.distill.config import DistillerConfig
from edgekd.training.engines.arguments import EngineArguments


def never_full(methods: Sequence[tuple[str, DistillerConfig] | None], epochs: Any, where: str, key: str) -> list[str]:
    """Problems with schedules that are still rising when the training ends, one line each.

    Args:
        methods: None for what is faulty itself.
        epochs: of the training; None is the engine's default, and what is no number is told elsewhere.
        key: `distill` or `quantize.distill`.
    """
    epochs = _number(epochs, "epochs")
    if epochs is None:
        return []
    schedules = {index: method[1].schedule for index, method in enumerate(methods) if method}
    ends = {index: min(schedule.until(epochs) or epochs, epochs) for index, schedule in schedules.items()}
    return [
        f"{where}: {key}[{index}].schedule.warmup_epochs: got {schedule.warmup_epochs:g}, but "
        f"{'the training has' if ends[index] == epochs else 'the method acts for'} {ends[index]:g} epochs: the "
        f"weight never rises to what it is set to; write less than {ends[index]:g}, or train longer"
        for index, schedule in schedules.items()
        if schedule.warmup_epochs >= ends[index]
    ]


def in_the_warm_up(methods: Sequence[tuple[str, DistillerConfig]], train: Mapping[str, Any]) -> Iterator[str]:
    """Warnings of methods that act only while the engine warms the learning rate up, and hardly teach anything."""
    epochs, warm_up = _number(train.get("epochs"), "epochs"), _number(train.get("warmup_epochs"), "warmup_epochs")
    if epochs is None or warm_up is None:
        return
    warm_up = min(warm_up, epochs - 1)  # the engine leaves at least the last epoch
    for index, (name, config) in enumerate(methods):
        until = config.schedule.until(epochs)
        if until is not None and until <= warm_up:
            key = "a later until_epoch" if config.schedule.until_share is None else "a larger until_share"
            yield (
                f"distill[{index}]: {name} acts until epoch {until:g}, while the learning rate still warms up "
                f"(train.warmup_epochs: {warm_up:g}): it hardly teaches anything; choose {key}"
            )


def _number(given: Any, key: str) -> float | None:
    value = EngineArguments.model_fields[key].default if given is None else given
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
