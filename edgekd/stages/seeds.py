"""Stages control and student: of one seed, or of several, of which one pair goes on and all decide what the gain is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgekd import ranks
from edgekd.atomic import read_json, write_bytes, write_json
from edgekd.measure.paired_gain import paired_gain
from edgekd.progress import say
from edgekd.recipe.schema import Recipe
from edgekd.report.numbers import gain_words
from edgekd.stages.context import Context
from edgekd.stages.train import Trained, accuracy_inputs, train, warn_of_comparison
from edgekd.stages.unlabelled import label_images

SCHEMA = "edgekd.seeds/1"
FILE = "seeds.json"


def control_stage(context: Context) -> None:
    """Train the control: the same student, data, seed and batches, no teacher."""
    if context.bound.recipe.control:
        for model in trained_models(context.bound.recipe, "control"):
            train(context, model)


def student_stage(context: Context) -> None:
    """Train the student, with every distiller of the recipe. Of several, the one that `select` names goes on."""
    recipe = context.bound.recipe
    label_images(context)
    for model in trained_models(recipe, "student"):
        train(context, model)
    if recipe.seeds:
        context.stage("seeds", seeds_inputs(context), lambda: _compare(context), together=True)
        seed = int(ranks.on_main(lambda: read_json(context.path / FILE))["selected"])
        for role in roles(recipe):
            _take(context, Trained(role, seed))


def roles(recipe: Recipe) -> tuple[str, ...]:
    """What is trained with each seed."""
    return ("control", "student") if recipe.control else ("student",)


def trained_models(recipe: Recipe, role: str) -> list[Trained]:
    """One, or one of each seed."""
    return [Trained(role, seed) for seed in recipe.seeds] or [Trained(role)]


def pairs_of(recipe: Recipe, ap: Sequence[dict[str, float]]) -> dict[str, Any]:
    """AP of each seed, and the gain over them; of one seed alone it has no interval.

    Args:
        ap: per seed, role -> AP.
    """
    seeds = recipe.seeds or (recipe.seed,)
    rows = [
        {"seed": seed, "control_ap": found.get("control"), "student_ap": found["student"]}
        for seed, found in zip(seeds, ap, strict=True)
    ]
    gain = (
        paired_gain([found["student"] for found in ap], [found["control"] for found in ap]) if recipe.control else None
    )
    return {"seeds": rows, "gain": asdict(gain) if gain else None}


def select(rule: str, students: Sequence[float]) -> int:
    """Which student goes on, as an index: of equal ones the first, of an even number the lower median."""
    if rule == "first":
        return 0
    by_ap = sorted(range(len(students)), key=lambda index: students[index])
    best = max(range(len(students)), key=lambda index: students[index])
    return best if rule == "best" else by_ap[(len(students) - 1) // 2]


def seeds_inputs(context: Context) -> dict[str, Any]:
    """What decides which seed goes on, and the gain."""
    recipe = context.bound.recipe
    measured = {
        model.stage: context.run.output_hash(f"accuracy/{model.stage}", f"{model.folder}/metrics.json")
        for role in roles(recipe)
        for model in trained_models(recipe, role)
    }
    return {"seeds": list(recipe.seeds), "select": recipe.select, "measured": measured}


def _compare(context: Context) -> list[str]:
    """Choose, and say what was gained."""
    if not ranks.is_main():
        return []
    recipe = context.bound.recipe
    found = [
        {role: read_json(context.path / Trained(role, seed).folder / "metrics.json")["ap"] for role in roles(recipe)}
        for seed in recipe.seeds
    ]
    students = [row["student"] for row in found]
    selected = recipe.seeds[select(recipe.select, students)]
    pairs = pairs_of(recipe, found)
    write_json(context.path / FILE, {"schema": SCHEMA, "select": recipe.select, "selected": selected, **pairs})
    if pairs["gain"]:
        say(f"seeds: gain {gain_words(pairs['gain'])} on val; seed {selected} goes on ({recipe.select})")
        warn_of_comparison(context, sum(row["control"] for row in found) / len(found), sum(students) / len(found))
    else:
        say(f"seeds: seed {selected} goes on ({recipe.select})")
    return [FILE]


def _take(context: Context, model: Trained) -> None:
    """The files of a seed's model, and of its AP, become those of the run."""
    taken = Trained(model.role)
    outputs = dict(context.run.manifest["stages"][model.stage]["outputs"])
    inputs = {"seed": model.seed, "outputs": outputs}
    context.stage(taken.stage, inputs, lambda: _copy(context, model, model.stage), together=True)
    stage = f"accuracy/{model.stage}"
    measured = accuracy_inputs(context, taken)
    context.stage(f"accuracy/{taken.stage}", measured, lambda: _copy(context, model, stage), together=True)


def _copy(context: Context, model: Trained, stage: str) -> list[str]:
    if not ranks.is_main():
        return []
    names = {name: name.removeprefix(model.root) for name in context.run.manifest["stages"][stage]["outputs"]}
    for source, name in names.items():
        write_bytes(context.path / name, (context.path / source).read_bytes())
    return list(names.values())
