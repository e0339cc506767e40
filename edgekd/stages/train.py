"""A training of a run and the AP of what came out: of a control, a student, or one that is trained on for int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgekd import ranks
from edgekd.atomic import read_json, sha256_file, sha256_json, write_json
from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Family, Trainable
from edgekd.detectors.inheriting import share
from edgekd.progress import say
from edgekd.ranks import agreement
from edgekd.report.warn import comparison
from edgekd.stages import offline, schedules
from edgekd.stages.binding import file_hash, hash_of_weights
from edgekd.stages.context import Context
from edgekd.stages.models import check_runtime
from edgekd.stages.prepare import prepared, prepared_inputs
from edgekd.stages.teachers import make_teachers, teacher_inputs
from edgekd.stages.torch_accuracy import measure_in_torch, measuring
from edgekd.stages.unlabelled import images_view, student_inputs
from edgekd.training.arguments import split_arguments
from edgekd.training.engines.process import PACKAGES
from edgekd.training.fit import fit
from edgekd.training.plan import FitPlan
from edgekd.training.resume import FILE, Resume
from edgekd.training.teacher import AnyTeacher


@dataclass(frozen=True)
class Trained:
    """One of the models that a run trains.

    Attributes:
        role: `control`, `student` or `student_qat`.
        seed: where the recipe has several: which of them.
    """

    role: str
    seed: int | None = None

    @property
    def stage(self) -> str:
        """Its name in the manifest."""
        return self.role if self.seed is None else f"{self.role}/seed-{self.seed}"

    @property
    def root(self) -> str:
        """Folder below the run, with a slash, in which it and its detections lie."""
        return "" if self.seed is None else f"seeds/{self.seed}/"

    @property
    def folder(self) -> str:
        """Its folder below the run."""
        return f"{self.root}{self.role}"

    @property
    def title(self) -> str:
        """For people."""
        return self.role if self.seed is None else f"{self.role} of seed {self.seed}"


@dataclass(frozen=True)
class Training:
    """A training, ready to begin.

    Attributes:
        teachers: by name; empty trains without one.
        title: of its progress bar.
    """

    plan: FitPlan
    teachers: Mapping[str, AnyTeacher]
    title: str


def train_stage(context: Context, model: Trained, inputs: dict[str, Any], prepare: Callable[[], Training]) -> None:
    """Stages `<model>` and `accuracy/<model>`: train, resumably, and measure what came out.

    Args:
        inputs: everything that decides the weights.
        prepare: builds what is needed, if there is something to train.
    """
    if ranks.size() > 1:  # decides which images share a batch norm
        inputs = {**inputs, "world_size": ranks.size()}
    resume = _resume(context, model, inputs)
    context.stage(model.stage, inputs, lambda: _train(context, model, prepare(), resume), together=True)
    resume.remove()
    _accuracy_stage(context, model)


def given_stage(context: Context, *, measured: bool) -> None:
    """Stage `student` without a training: the weights that the recipe's student starts from, for what comes behind it.

    Args:
        measured: do `accuracy/student`, too.
    """
    recipe, model = context.bound.recipe, Trained("student")
    inputs = {
        "student": recipe.student.model_dump(mode="json"),
        "architecture": file_hash(Path(recipe.student.model)) if recipe.student.model else None,
        "initial": hash_of_weights(context.bound.weights_path(recipe.student)),
        "size_px": context.size_px,
    }
    context.stage("student", inputs, lambda: _given(context, model))
    if measured:
        _accuracy_stage(context, model)


def _given(context: Context, model: Trained) -> list[str]:
    student, folder = context.pair.student, context.path / model.folder
    folder.mkdir(exist_ok=True)
    student.with_module(student.module).save(folder, {}, context.size_px[0])
    write_json(folder / "training.json", {"epochs": 0, "seconds": 0.0, "saving_seconds": 0.0})
    return [weights_name(context, model), f"{model.folder}/training.json"]


def _accuracy_stage(context: Context, model: Trained) -> None:
    measured = accuracy_inputs(context, model)
    context.stage(f"accuracy/{model.stage}", measured, lambda: _measure(context, model), together=True)


def accuracy_inputs(context: Context, model: Trained) -> dict[str, Any]:
    """What decides the AP of a trained model."""
    return {"weights": context.run.output_hash(model.stage, weights_name(context, model)), **measuring(context)}


def fit_plan(context: Context, model: Trained) -> FitPlan:
    """What decides the weights of a model."""
    recipe, pair = context.bound.recipe, context.pair
    train, own = split_arguments(recipe.train)
    taught = model.role == "student"
    data_yaml, unlabelled = ranks.on_main(lambda: images_view(context, with_unlabelled=taught))
    return FitPlan(
        student=pair.student,
        initialised=pair.initialised,
        inherited=pair.inherited,
        data_yaml=data_yaml,
        unlabelled=unlabelled,
        train=train,
        own=own,
        head=pair.head,
        seed=recipe.seed if model.seed is None else model.seed,
        threads=recipe.threads,
        distillers=context.bound.distillers if taught else (),
        compared=bool(recipe.distill),
        views=offline.views_of(recipe) if model.role in ("control", "student") else None,
    )


def load_trained(context: Context, model: Trained) -> Trainable:
    """The detector that a training left behind."""
    spec, path = context.pair.student.spec, context.path / weights_name(context, model)
    asked = Asked(spec.name, path, (), context.data.channels, model.title)
    return families.trainable(families.open_detector(spec.family, asked), model.title)


def weights_name(context: Context, model: Trained) -> str:
    """The file below the run directory that holds the weights of a model."""
    return f"{model.folder}/{_family(context).student_files[0]}"


def _family(context: Context) -> Family:
    """The student's, without opening it."""
    student = context.bound.recipe.student
    name = student.family or families.meant(student.model, context.bound.weights_path(student))
    return families.family(name or context.pair.student.spec.family)


def train(context: Context, model: Trained) -> None:
    """Train a control (the same student, data, seed and batches, no teacher), or a student with every distiller."""
    recipe = context.bound.recipe
    distilling = model.role == "student" and bool(recipe.distill)
    inputs: dict[str, Any] = {
        "student": recipe.student.model_dump(mode="json"),
        "architecture": file_hash(Path(recipe.student.model)) if recipe.student.model else None,
        "initial": hash_of_weights(context.bound.weights_path(recipe.student)),
        "train": split_arguments(recipe.train)[0],
        "seed": recipe.seed if model.seed is None else model.seed,
        "threads": recipe.threads,
    }
    if (style := _family(context).style.version) > 1:
        inputs["style"] = style
    if recipe.student.inherit:
        assert recipe.teacher is not None
        inputs["inherited"] = hash_of_weights(context.bound.weights_path(recipe.teacher))
    if (views := offline.views_of(recipe)) is not None:
        inputs["views"] = asdict(views)
    if model.role == "student":
        inputs |= student_inputs(context)
    ready: dict[str, Path] = {}
    if distilling:
        ready = prepared(context, context.bound.distillers)
        inputs |= prepared_inputs(context, ready)
        inputs["distill"] = [[method, config.model_dump(mode="json")] for method, config in context.bound.distillers]
        inputs |= teacher_inputs(context.bound, context.bound.distillers, context.pair.teachers)
        inputs |= offline.student_knowledge_inputs(context, inputs.get("prepared", {}))
    train_stage(context, model, inputs, lambda: _prepare(context, model, distilling, ready))


def _prepare(context: Context, model: Trained, distilling: bool, ready: Mapping[str, Path]) -> Training:
    check_runtime(context.bound)  # before the control is trained, too
    for warning in schedules.in_the_warm_up(context.bound.distillers, context.bound.recipe.train) if distilling else ():
        say(f"warning: {warning}")
    teachers = make_teachers(context.bound.distillers, context.pair.teachers) if distilling else {}
    title = f"{'distilling' if distilling else 'training'} the {model.title}"
    hashes = prepared_inputs(context, ready).get("prepared", {})
    stored = offline.stored_knowledge(context, hashes) if distilling else None
    return Training(replace(fit_plan(context, model), prepared=ready, stored=stored), teachers, title)


def _resume(context: Context, model: Trained, inputs: dict[str, Any]) -> Resume:
    """The saved state of a training that was stopped: of this very training, or the user is asked."""
    versions = {package: version(package) for package in dict.fromkeys((*PACKAGES, *_family(context).packages))}
    identity = {**context.with_common(model.stage, inputs), **versions, "world_size": ranks.size()}
    minutes = split_arguments(context.bound.recipe.train)[1].checkpoint_minutes
    return Resume(context.path / model.folder / FILE, identity, minutes, context.allow_changed)


def _train(context: Context, model: Trained, training: Training, resume: Resume) -> list[str]:
    folder = context.path / model.folder
    result = fit(training.plan, training.teachers, folder, training.title, resume)
    context.require_same_data(f"the {model.title} was trained")
    effort: dict[str, Any] = {
        "epochs": result.epochs,
        "seconds": round(result.seconds, 1),
        "saving_seconds": round(result.saving_seconds, 2),
    }
    if taken := dict(training.plan.inherited):
        sections = list(context.bound.recipe.student.inherit)
        effort["inherited"] = {"sections": sections, "share": round(share(taken, training.plan.student), 4)}
    if ranks.is_main():
        write_json(folder / "training.json", effort)
    taught = ["terms.csv", "first_steps.json"] if training.teachers else []
    own = ["training.json", "epochs.csv", *taught]
    return [weights_name(context, model), *(f"{model.folder}/{file}" for file in own)]


def _measure(context: Context, model: Trained) -> list[str]:
    """AP of what was trained, beside it: measured apart, so that another threshold costs no training."""
    folder = context.path / model.folder
    weights = weights_name(context, model)
    agreement.await_file(context.path / weights, context.run.output_hash(model.stage, weights))
    detector = load_trained(context, model)
    summary, written = measure_in_torch(context, detector, context.pair.head, model.role, root=model.root)
    if not ranks.is_main():
        return []
    effort = read_json(folder / "training.json")
    _write_metrics(context, model, effort, summary)
    _publish(context, folder, detector, summary)
    spent = f"{effort['epochs']} epochs, {effort['seconds']:.0f} s"
    say(f"{model.title}: AP {summary['ap']:.3f}, AP50 {summary['ap50']:.3f} on val ({spent})")
    if model == Trained("student"):
        control = read_json(context.path / "control" / "metrics.json") if context.bound.recipe.control else {"ap": None}
        warn_of_comparison(context, control["ap"], summary["ap"])
    published = [f"{model.folder}/{file}" for file in _family(context).student_files[1:]]
    return [f"{model.folder}/metrics.json", *published, *written]


def warn_of_comparison(context: Context, control: float | None, student: float) -> None:
    """Where the comparison is not what one hopes for."""
    teacher = read_json(context.path / "teacher" / "teacher.json")["ap"] if context.bound.recipe.teacher else None
    for warning in comparison(teacher, control, student):
        say(f"warning: {warning}")


def _write_metrics(context: Context, model: Trained, effort: dict[str, Any], summary: dict[str, Any]) -> None:
    spec = context.pair.student.spec
    content = {
        "name": spec.name,
        "parameters": spec.parameters,
        "weights_sha256": sha256_file(context.path / weights_name(context, model)),
        "head": context.pair.head,
        **effort,
        **{key: value for key, value in summary.items() if key not in ("images", "settings")},
    }
    write_json(context.path / model.folder / "metrics.json", content)


def _publish(context: Context, folder: Path, detector: Trainable, summary: dict[str, Any]) -> None:
    """The weights beside what was measured of them, fit to be the teacher of another recipe."""
    facts = {
        "recipe": context.bound.recipe.name,
        "recipe_sha256": sha256_json(context.bound.recipe.model_dump(mode="json", by_alias=True)),
        "data": context.data_identity["splits"],
        **{key: round(summary[key], 4) for key in ("ap", "ap50")},
    }
    detector.publish(folder, facts)
