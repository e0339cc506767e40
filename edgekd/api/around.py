"""What stands around runs: a first recipe, a look at one, the search for a distiller, two artifacts compared."""

from __future__ import annotations

import json
from pathlib import Path

from edgekd.api.calls import QUIET_S, WAIT_S, Listener, Overrides
from edgekd.api.recipe import Recipe
from edgekd.api.shown import Checked, Searched, Shortlisted, Verdict
from edgekd.api.typed import typed_errors
from edgekd.errors import InputError
from edgekd.plain import json_text
from edgekd.progress import listening
from edgekd.recipe.asked import overrides_of


@typed_errors
def init(
    data: str | Path | None = None,
    *,
    teacher: str | Path,
    out: str | Path | None = None,
    teacher_model: str | None = None,
    student: str | None = None,
    device: str = "local",
    from_yolo: str | Path | None = None,
    quiet: bool = False,
) -> Recipe:
    """Write a first recipe, by looking at data, teacher, device and machine; nothing is written over.

    Args:
        data: a data.yaml, a COCO file of the train split, or `digits`.
        teacher: weights of a detector that is good at this data.
        out: file to write; default: named after the data, in the current folder.
        teacher_model: the teacher's model, where the weights do not say it.
        student: a model or weights; default: one that suits the teacher.
        device: where it will run: a name or a YAML file.
        from_yolo: the args.yaml of a `yolo train`, to be taken over.
    """
    from edgekd.stages.starting.first_recipe import InitRequest, write_first_recipe

    paths = (None if path is None else Path(path) for path in (out, from_yolo))
    request = InitRequest(None if data is None else str(data), Path(teacher), teacher_model, student, device, *paths)
    with listening(None, quiet=quiet):
        return Recipe.load(write_first_recipe(request)["file"])


@typed_errors
def check(
    recipe: str | Path | Recipe,
    overrides: Overrides | None = None,
    *,
    architecture_only: bool = False,
    dry_step: bool = False,
    estimate: bool = True,
    quiet: bool = False,
) -> Checked:
    """Resolve a recipe: build the models, discover taps, bind methods, targets and devices; keep nothing.

    Args:
        architecture_only: build models by name; open no weights and no data.
        dry_step: also run one training step on the CPU.
        estimate: make a few steps of each training, to say how long a run takes and what it needs.
    """
    from edgekd.search.distillers.section import check_section
    from edgekd.stages.check import check_bound

    with listening(None, quiet=quiet):
        bound = Recipe.asked(recipe).bound(overrides_of(overrides))
        found = check_bound(bound, architecture_only, dry_step, estimate, check_section)
    return Checked(json.loads(json_text(found)))


@typed_errors
def search(
    recipe: str | Path | Recipe,
    out: str | Path,
    overrides: Overrides | None = None,
    *,
    fresh: bool = False,
    on_event: Listener | None = None,
    quiet: bool = False,
) -> Searched:
    """Search the distiller that teaches the recipe's pair best, or go on with a search.

    Args:
        recipe: its file, the name of a built-in one, or a `Recipe`.
        out: folder of the search.
        fresh: delete first what edgekd wrote there.
    """
    from edgekd.search.distillers import show
    from edgekd.search.distillers.search import search_bound

    with listening(on_event, quiet=quiet):
        search_bound(Recipe.asked(recipe).bound(overrides_of(overrides)), Path(out), fresh=fresh)
    return Searched(show.read(Path(out)))


@typed_errors
def shortlist(
    recipe: str | Path | Recipe,
    overrides: Overrides | None = None,
    *,
    device: str | None = None,
    folder: str | Path | None = None,
    everything: bool = False,
    most: int | None = None,
    wait_s: float = WAIT_S,
    on_event: Listener | None = None,
    quiet: bool = False,
) -> Shortlisted:
    """Profile untrained students on a device: which keep the gate's budgets and are not dominated.

    What was measured before is not measured again; the page and its JSON twin are written into the folder.

    Args:
        recipe: its file, the name of a built-in one, or a `Recipe`.
        device: a name or a YAML file; default: the recipe's only one, else local.
        folder: keeps what is measured; default: runs/shortlist-NAME.
        everything: measure also what a prediction rules out.
        most: measure at most so many now; 0 measures nothing, and says what is known.
        wait_s: for another run to leave the device.
    """
    from edgekd.search import shown
    from edgekd.search.shortlist import shortlist_bound

    if most is not None and most < 0:
        raise InputError(f"shortlist: most: at least 0, got {most}")
    place = None if folder is None else Path(folder)
    with listening(on_event, quiet=quiet):
        found = shortlist_bound(
            Recipe.asked(recipe).bound(overrides_of(overrides)), device, place, everything=everything,
            most=most or None, turn_seconds=wait_s, measuring=most != 0,
        )  # fmt: skip
        told, _ = shown.write(found)
    return Shortlisted(told)


@typed_errors
def compare(
    reference: str | Path,
    candidate: str | Path,
    *,
    out: str | Path,
    device: str = "local",
    images: str | Path | None = None,
    max_slowdown: float = 0.01,
    max_ap_loss: float = 0.005,
    accuracy: bool = True,
    max_processes: int = 36,
    wait_s: float = WAIT_S,
    on_event: Listener | None = None,
    quiet: bool = False,
) -> Verdict:
    """Judge an artifact against another, interleaved on one device, now.

    Args:
        reference, candidate: artifact folders, e.g. RUN/export/TARGET.
        out: folder for the verdict and the raw measurements.
        device: where to measure: a name or a YAML file.
        images: run whose validation images serve both; default: each one's own.
        max_slowdown: latency budget, as a fraction.
        max_ap_loss: AP that may be lost.
        accuracy: whether to measure AP at all.
        max_processes: cap, after which it is inconclusive; at least 3.
    """
    from edgekd.gate.comparison import looks_up_to
    from edgekd.stages import compare as stage
    from edgekd.stages.compared_artifact import subject

    if max_processes < 3:
        raise InputError(f"compare: max_processes: at least 3, got {max_processes}")
    rules = stage.Rules(
        max_slowdown=max_slowdown, max_ap_loss=max_ap_loss, accuracy=accuracy, looks=looks_up_to(max_processes)
    )
    shared = None if images is None else Path(images)
    with listening(on_event, quiet=quiet):
        found = stage.compare(
            subject(Path(reference), shared), subject(Path(candidate), shared), device, rules, Path(out),
            turn_seconds=wait_s, quiet_seconds=QUIET_S,
        )  # fmt: skip
    return Verdict(found.status, found.reasons, found.checks)
