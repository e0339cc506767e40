"""What a verdict rests on: the finished stages of the models and artifacts that it speaks of, with their files as they
were written, done from the data, the recipe and the artifacts that are there now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.run_dir import remedy
from edgekd.stages.context import Context
from edgekd.stages.export import export_inputs
from edgekd.stages.on_device import pairs, profile_inputs, validate_inputs
from edgekd.stages.seeds import roles, seeds_inputs, trained_models
from edgekd.stages.train import Trained, accuracy_inputs


def require_sound(context: Context) -> None:
    """Refuse to judge by files that are not what was measured, or that belong to something else.

    Raises:
        InputError: edited, cut, gone, or of another recipe, data set or artifact; one line each.
        EnvironmentFault: a file cannot be read.
    """
    done = [stage for stage in _stages(context) if stage in context.run.manifest["stages"]]
    context.run.require_intact(done)
    if problems := [
        f"{context.run.path}: stage '{stage}' was done with another recipe, data set or artifact than these are now; "
        f"{remedy(context.run.path, stage)}"
        for stage, inputs in _inputs(context)
        if not context.run.is_of(stage, context.with_common(stage, inputs))
    ]:
        raise InputError(*problems)


def measured(context: Context, stage: str, name: str) -> Path | None:
    """A file of a finished stage; None where the stage was not done, or was begun anew and not ended."""
    entry = context.run.manifest["stages"].get(stage)
    return context.path / name if entry is not None and name in entry["outputs"] else None


def _stages(context: Context) -> Iterator[str]:
    recipe = context.bound.recipe
    for role in reversed(roles(recipe)):
        yield from (role, f"accuracy/{role}")
        if recipe.seeds:
            yield from (f"accuracy/{model.stage}" for model in trained_models(recipe, role))
    if recipe.seeds:
        yield "seeds"
    for target, device in pairs(context):
        pair = f"{target.name}@{device.name}"
        yield from (f"export/{target.name}", f"validate/{pair}", f"profile/{pair}")


def _inputs(context: Context) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What each finished stage would be done from now."""
    done = context.run.manifest["stages"]
    recipe = context.bound.recipe
    for role in reversed(roles(recipe)):
        if f"accuracy/{role}" in done:
            yield f"accuracy/{role}", accuracy_inputs(context, Trained(role))
    if recipe.seeds and "seeds" in done:
        yield "seeds", seeds_inputs(context)
    for target, device in pairs(context):
        pair, exported = f"{target.name}@{device.name}", f"export/{target.name}" in done
        if exported:
            yield f"export/{target.name}", export_inputs(context, target)
        if exported and f"validate/{pair}" in done:
            yield f"validate/{pair}", validate_inputs(context, target, device)
        if exported and f"profile/{pair}" in done:
            yield f"profile/{pair}", profile_inputs(context, target, device)
