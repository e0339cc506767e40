"""Stage knowledge: what the teachers say of every view of every train image, written once into a store.

A recipe that names a finished store finds everything there and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from edgekd import ranks
from edgekd.atomic import write_json
from edgekd.errors import InputError
from edgekd.progress import progress, say
from edgekd.stages import offline
from edgekd.stages.context import Context
from edgekd.stages.models import check_runtime
from edgekd.stages.prepare import prepared, prepared_inputs
from edgekd.stages.storable import asked
from edgekd.stages.teachers import make_teachers
from edgekd.stages.train import Trained, fit_plan
from edgekd.stages.unlabelled import label_images
from edgekd.training.distillers import build_distillers
from edgekd.training.engines.placement import torch_device
from edgekd.training.engines.samples import TrainSamples
from edgekd.training.knowledge import Online
from edgekd.training.store.fill import blocks_of, fill, in_bytes, require_room
from edgekd.training.store.places import place_of
from edgekd.training.store.store import Part, Shard, Store
from edgekd.training.store.wanted import view_of, want, wanted
from edgekd.training.views import Views

STAGE, FILE = "knowledge", "knowledge.json"
SCHEMA = "edgekd.knowledge_used/1"


def knowledge_stage(context: Context) -> None:
    """Make the store, or what is missing of it; of a recipe whose teachers are asked in every step nothing."""
    recipe = context.bound.recipe
    views = offline.views_of(recipe)
    if views is None:
        return
    label_images(context)
    files = prepared(context, context.bound.distillers)
    ready: Mapping[str, str] = prepared_inputs(context, files).get("prepared", {})
    identities = offline.part_identities(context, ready)
    place = offline.place(context)
    store = ranks.on_main(lambda: Store.at(place))
    if store is not None:
        offline.required(context, store, identities)
    missing = [] if store is None else ranks.on_main(partial(_missing, store, views, thorough=context.thorough))
    if store is None or missing:
        store = _write(context, store, missing, views, files, identities)
        context.require_same_data("the teachers were asked")
    made = {"store": store.digest, "views": [view.name for view in views.all()]}
    facts = _facts(store, views)
    context.stage(STAGE, {**made, "at": place.name}, lambda: _note(context, facts), together=True)
    say(f"knowledge: {facts['told']}")


def _missing(store: Store, views: Views, *, thorough: bool) -> list[Shard]:
    """Shards to write: of a check by all checksums, damaged ones, too."""
    shown = views.all()
    missing = store.missing(shown)
    if not thorough:
        return missing
    there = [shard for shard in store.shards(shown) if shard not in missing]
    with progress("checking the store", len(there)) as advance:
        for shard in there:
            reason = store.damaged(shard)
            if reason is not None:
                say(f"knowledge: shard {shard.name} is damaged ({reason}) and made anew")
                missing.append(shard)
            advance()
    return sorted(missing, key=lambda shard: (shard.view.closed, shard.view.number, shard.number))


def _write(
    context: Context,
    store: Store | None,
    missing: list[Shard],
    views: Views,
    files: Mapping[str, Path],
    identities: list[dict[str, Any]],
) -> Store:
    """Write what is missing of a store, or a new one."""
    bound, recipe = context.bound, context.bound.recipe
    check_runtime(bound)
    teacher, device = asked(recipe), torch_device(recipe.train.get("device"))
    assert teacher is not None
    teachers = make_teachers(bound.distillers, context.pair.teachers)
    for one in teachers.values():
        one.to(device)
    plan = fit_plan(context, Trained("student"))
    with torch.random.fork_rng(devices=[]):
        methods = [part.to(device) for part in build_distillers(plan.distillers, plan.student.spec, teachers, files)]
    source = Online(methods, [teachers[config.teacher] for _, config in plan.distillers])
    samples = TrainSamples(plan, context.path / ".engine" / "knowledge")
    if store is None:
        blank = torch.full((2, samples.channels, samples.size_px, samples.size_px), 0.5, device=device)
        blocks = blocks_of(methods, source, blank, len(context.data.class_names), teacher.storage, teacher.points)
        parts = [Part(one, block) for one, block in zip(identities, blocks, strict=True)]
        store = Store.made(offline.place(context), offline.identity(context), parts, samples.images)
        missing = list(store.shards(views.all()))
    else:  # its parts may be more, or in another order, than this recipe's methods
        places = offline.required(context, store, identities)
        if places != list(range(len(store.parts))):
            raise InputError(
                f"{bound.where}: teacher.store: {store.place.name} lacks {len(missing)} shards, and holds knowledge of "
                "other methods, too, or in another order; only a recipe with these very methods can complete it"
            )
    ranks.on_main(lambda: _begin(store, missing, views))
    fill(store, missing, samples, methods, source)
    return store


def _begin(store: Store, missing: list[Shard], views: Views) -> None:
    require_room(store, missing, len(views.all()))
    there = Store.at(store.place)
    if there is None:
        store.write_index()
    elif there.digest != store.digest:
        raise InputError(
            f"{store.place.name}: another command has begun a store of other knowledge here meanwhile; name another "
            "teacher.store"
        )
    want(store.place, views.all())


def _facts(store: Store, views: Views) -> dict[str, Any]:
    shown = views.all()
    total = (store.record_bytes + 4 * len(store.parts)) * store.images * len(shown)
    kinds = [sum(view.closed == closed for view in shown) for closed in (False, True)]
    closed = f" and {kinds[1]} without mosaic" if kinds[1] and kinds[0] else ""
    told = f"{kinds[0] or kinds[1]} views{closed} of {store.images:,} images, {in_bytes(total)} in {store.place.name}"
    return {
        "schema": SCHEMA,
        "store": store.place.name,
        "images": store.images,
        "views": [view.name for view in shown],
        "view_seed": views.seed,
        "record_bytes": store.record_bytes,
        "total_bytes": total,
        "storage": store.identity["storage"],
        "told": told,
    }


def _note(context: Context, facts: dict[str, Any]) -> list[str]:
    if not ranks.is_main():
        return []
    write_json(context.path / FILE, facts)
    return [FILE]


def show_store(text: str, *, thorough: bool = False) -> dict[str, Any]:
    """What a store holds, and what is missing of it.

    Args:
        text: its folder or URL.
        thorough: read everything, and compare it with its checksums.

    Raises:
        InputError: there is none.
    """
    place = place_of(text, Path.cwd())
    store = Store.at(place)
    if store is None:
        raise InputError(
            f"{place.name}: no store of knowledge (no knowledge.json); make one with 'edgekd knowledge RECIPE'"
        )
    sizes = place.sizes()
    shown = sorted(wanted(place, sizes), key=lambda view: view.name)
    missing = store.missing(shown)
    damaged = {
        shard.name: reason
        for shard in store.shards(shown)
        if thorough and shard not in missing and (reason := store.damaged(shard))
    }
    return {
        "store": place.name,
        "complete": bool(shown) and not missing and not damaged,
        "images": store.images,
        "views": [view.name for view in shown],
        "record_bytes": store.record_bytes,
        "bytes": sum(size for name, size in sizes.items() if view_of(name)),
        "missing_shards": [shard.name for shard in missing],
        "damaged_shards": damaged,
        "methods": [
            {"method": part.identity["method"], "teacher": part.identity["teacher"], "bytes": part.block.size_bytes,
             "fp32_bytes": 4 * part.block.values, "fields": part.block.as_json()}
            for part in store.parts
        ],
        "identity": dict(store.identity),
    }  # fmt: skip


def shown_store(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same in a few lines, for people."""
    state = f"{len(facts['missing_shards'])} shards missing, {len(facts['damaged_shards'])} damaged"
    if not facts["views"]:
        state = "nothing was written yet"
    elif facts["complete"]:
        state = "complete"
    return {
        "store": f"{facts['store']} ({state})",
        "images": f"{facts['images']:,}",
        "views": ", ".join(facts["views"]),
        "size": f"{in_bytes(facts['bytes'])}, {in_bytes(facts['record_bytes'])} an image and view",
        **{
            one["method"]: f"{in_bytes(one['bytes'])} an image, of {in_bytes(one['fp32_bytes'])} in float32, from "
            f"{one['teacher'].get('model', 'an ensemble')}"
            for one in facts["methods"]
        },
        **{f"damaged {name}": reason for name, reason in facts["damaged_shards"].items()},
    }
