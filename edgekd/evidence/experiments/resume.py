"""A distillation that is killed goes on: are its weights those of one that nobody disturbed?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments import runs
from edgekd.evidence.experiments.places import ENGINE, RESUME, trained_on, versions

NAME = "kill and resume"
_LOOK_EVERY_S = 0.02
_SAVED = 2  # states that were kept before the kill: the training is in its midst


def offers(setting: Setting) -> Iterator[Experiment]:
    """Once."""
    title = "a distillation ended by SIGKILL and gone on with, against one that was not disturbed"
    yield Experiment(NAME, title, "resume", 40, 300, lacking=setting.lacks_gpus(), sources=(*ENGINE, *RESUME))


def run(work: Work) -> None:
    """Files whose bytes differ: none is what is hoped for; twice undisturbed says what the GPU itself leaves open."""
    recipe = runs.recipe(work, "resume", deterministic=True, workers=0)  # new workers would draw anew
    whole, again, killed = (work.folder / name for name in ("whole", "again", "killed"))
    began = time.monotonic()
    runs.finish(recipe, whole)
    work.keep(undisturbed_s=round(time.monotonic() - began, 1))
    work.keep(kills=_kill(recipe, killed))
    runs.finish(recipe, killed)
    differing = _differing(whole, killed)
    work.keep(differs=differing)
    if fault(work.figures) is None:
        work.shows(NAME, trained_on(work), (*ENGINE, *RESUME), versions(work))
    elif differing:
        runs.finish(recipe, again)
        work.keep(undisturbed_differs_from_itself=_differing(whole, again))


def fault(figures: Mapping[str, Any]) -> str | None:
    """It was not killed, or its files are others."""
    if figures.get("kills") == 0:
        return "it was over before it could be killed"
    if not (differs := figures.get("differs")):
        return None
    also = "; two that nobody disturbed differ, too" if figures.get("undisturbed_differs_from_itself") else ""
    return f"not the files of one that nobody disturbed: {', '.join(differs)}{also}"


def _kill(recipe: Path, out: Path) -> int:
    """End it once its state was saved some times; 0 if it was done before."""
    process, state = runs.begin(recipe, out), out / "student" / "resume.pt"
    seen: set[int] = set()
    try:
        while process.poll() is None and len(seen) < _SAVED:
            if state.is_file():
                seen.add(state.stat().st_mtime_ns)
            time.sleep(_LOOK_EVERY_S)
    except FileNotFoundError:  # replaced, or removed, between two looks
        pass
    killed = process.poll() is None
    process.kill()
    process.wait()
    return int(killed)


def _differing(one: Path, other: Path) -> list[str]:
    first, second = runs.hashes(one), runs.hashes(other)
    return [name for name, digest in first.items() if digest != second[name]]


register("resume", offers, run, fault=fault)
