"""Is the baseline the engine's own training, bit for bit, and are two runs of one training the same?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments.places import ENGINE, trained_on, versions
from edgekd.evidence.shipped import CLASSES, arguments, digits, quickstart_methods, shipped_teacher

NAME = "bit-exact baseline"
_MODEL = "yolo11n"


def offers(setting: Setting) -> Iterator[Experiment]:
    """Once."""
    title = "training without methods against yolo train, and twice, with deterministic algorithms"
    yield Experiment(NAME, title, "exact", 30, 150, lacking=setting.lacks_gpus(), sources=ENGINE)


def run(work: Work) -> None:
    """Names of the tensors that differ to the last bit: none is what is hoped for."""
    import torch

    from edgekd.training.engines import peers

    scale = work.scale
    data = digits(work.folder / "digits", scale.ap_px, scale.images, 8)
    train = {**arguments(scale.ap_px, scale.epochs, 8), "deterministic": True, "workers": 0, "device": _engine(work)}
    first = _ours(work, data, train, "one", ())
    work.keep(differs_from_itself=peers.same_weights(first, _ours(work, data, train, "two", ())))
    torch.set_num_threads(1)
    theirs = peers.plain(_MODEL, data, train, 0, work.folder / "theirs")
    differs = peers.same_weights(first, theirs)
    work.keep(differs_from_the_engine=differs)
    if not differs:
        work.shows(NAME, trained_on(work), ENGINE, versions(work))
    taught = [_ours(work, data, train, f"taught {number}", quickstart_methods()) for number in (1, 2)]
    work.keep(distilled_differs_from_itself=peers.same_weights(*taught))


def fault(figures: Mapping[str, Any]) -> str | None:
    """Every comparison that found a difference."""
    compared = {
        "differs_from_the_engine": "from the engine's own", "differs_from_itself": "between two trainings",
        "distilled_differs_from_itself": "between two distillations",
    }  # fmt: skip
    told = [f"{len(found)} tensors differ {what}" for key, what in compared.items() if (found := figures.get(key))]
    return ", ".join(told) or None


def _ours(work: Work, data: Path, train: dict[str, Any], name: str, methods: tuple[tuple[str, Any], ...]) -> Path:
    """A checkpoint of edgekd's training."""
    from edgekd.detectors.class_map import ClassMap
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.families import open_detector, trainable
    from edgekd.training.fit import fit
    from edgekd.training.plan import FitPlan
    from edgekd.training.teacher import Teacher

    asked = Asked(_MODEL, None, CLASSES, 3, "student")
    plan = FitPlan(
        student=trainable(open_detector(None, asked), "student"), initialised=False, data_yaml=data, train=dict(train),
        head="one2many", seed=0, threads=1, distillers=methods,
    )  # fmt: skip
    teachers = {"teacher": Teacher(shipped_teacher().frozen(), ClassMap.identity(len(CLASSES)))} if methods else {}
    return fit(plan, teachers, work.folder / name, name).weights


def _engine(work: Work) -> str:
    return "0" if work.scale.device == "cuda" else "cpu"


register("exact", offers, run, fault=fault)
