"""Puts a first recipe together, tries it, and writes it."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.atomic import place_fault, write_text
from edgekd.data.config import DataSet, notices
from edgekd.detectors.contract import Detector
from edgekd.devices import catalog
from edgekd.devices.contract import DeviceSpec
from edgekd.errors import InputError
from edgekd.plain import listed
from edgekd.recipe.instead import WEIGHTS
from edgekd.run_dir import RunDir
from edgekd.stages.before_training import check_ready
from edgekd.stages.binding import bind_recipe
from edgekd.stages.check import check_budgets
from edgekd.stages.context import Context
from edgekd.stages.models import RunDetectors
from edgekd.stages.starting import data, from_yolo, machine, models
from edgekd.stages.starting.text import Line, content_of, written

_ON_PROBLEM = ("error", "clip", "skip")
_MOST_NOTICES = 5
_MOST_AP_DROP = 0.005


@dataclass(frozen=True)
class InitRequest:
    """What a first recipe is asked for.

    Attributes:
        data: a data.yaml, a COCO file of the train split, or `digits`; None with `arguments`.
        teacher: its weights.
        teacher_model: its model, where the weights do not say it.
        student: a model or weights; None: one that suits the teacher.
        device: name of a device, or its YAML file.
        out: the file to write; None: named after the data, in the current folder.
        arguments: the args.yaml of a `yolo train`, to be taken over.
    """

    data: str | None
    teacher: Path
    teacher_model: str | None = None
    student: str | None = None
    device: str = "local"
    out: Path | None = None
    arguments: Path | None = None


def write_first_recipe(request: InitRequest) -> dict[str, Any]:
    """Look, decide, try, write. Nothing is asked, and no file is written over.

    Returns:
        `file`, `recipe` (its content), and `next`: the command that runs it.

    Raises:
        InputError: data, teacher or device are not what they should be, do not fit each other, or the file is there.
    """
    taken = from_yolo.read(request.arguments) if request.arguments else None
    given = request.data or (taken.data if taken else None)
    if given is None:
        raise InputError("init: give a data.yaml, a COCO JSON of the train split, 'digits', or --from-yolo args.yaml")
    if not request.teacher.is_file():
        raise InputError(
            f"--teacher {request.teacher}: no such file; give the weights of a detector that is good at this data"
        )
    out = request.out or Path(f"{_name(given)}.yaml")
    if fault := place_fault(out):
        raise InputError(f"{out}: {fault}")
    if out.exists():
        raise InputError(f"{out}: is there already, and stays as it is; choose another name with --out")
    device = catalog.load(request.device)
    with _desk(out.stem) as desk:
        lines, head = _decided(desk, request, taken, given, out, device)
        content = content_of(lines)
        _tried(desk, content, out)
    command = shlex.join(["edgekd", "run", str(out), "--out", f"runs/{out.stem}"])
    about = [
        "Written by `edgekd init`, which looked at the data, the models and the machine; each line says why.", "",
        f"  {command}", "", *head,
    ]  # fmt: skip
    write_text(out, written(about, lines))
    return {"file": str(out), "recipe": content, "next": command}


@contextmanager
def _desk(name: str) -> Iterator[RunDir]:
    """A run directory for the while, in which data is looked through once."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        RunDir.held(Path(scratch) / "run", name, Path(), "") as run,
    ):
        yield run


def _decided(
    desk: RunDir, request: InitRequest, taken: from_yolo.Taken | None, given: str, out: Path, device: DeviceSpec
) -> tuple[list[Line], list[str]]:
    """The recipe's lines, and what stands above them."""
    beside = out.parent
    section = data.section(given, beside)
    found, section, problem = _looked_through(desk, section, out)
    teacher_lines, detector = _teacher(request, found, beside)
    student_lines = _student(request, taken, detector, beside)
    draft = [
        Line("name", re.sub(r"[^A-Za-z0-9._-]+", "-", out.stem).strip("-._") or "first"),
        Line("data", tuple(_data(section, found, problem))),
        Line("teacher", tuple(teacher_lines)),
        Line("student", tuple(student_lines)),
    ]
    pair = Context(bind_recipe(out, (), beside, content_of(draft)), desk).pair
    multiple = pair.student.spec.size_multiple
    train = machine.train(data.shape(found), machine.gpu_gib(), multiple)
    if taken:
        own = [Line(key, value, f"of {request.arguments}") for key, value in taken.train.items()]
        train = [*own, *(one for one in train if one.key not in (*taken.train, "nbs"))]  # whose default they had
    if section["format"] == "digits":
        train.append(Line("fliplr", 0.0, "a mirrored digit is another shape"))
    targets = machine.targets(device)
    head = [*_about_data(found), *(f"left out: {line}" for line in (taken.left_out if taken else ()))]
    return [*draft[:2], *_models(draft, pair), *_rest(pair, train, targets, device, request, out)], head


def _rest(
    pair: RunDetectors, train: list[Line], targets: list[Line], device: DeviceSpec, request: InitRequest, out: Path
) -> list[Line]:
    """Everything behind data and models."""
    serve, every = models.serving(pair)
    chosen = models.methods(pair)
    lines = [
        Line(
            "distill", tuple(chosen) or [],
            f"{serve} of {every} methods serve this pair, see `edgekd methods --for {shlex.quote(str(out))}`; "
            + ("weights as in the quickstart" if len(chosen) > 1 else "none of the usual ones does"),
        ),
        Line("control", True, "the same student without a teacher: what distillation gained is told by the two"),
        Line("train", tuple(train)),
    ]  # fmt: skip
    if not targets:
        return lines
    where = "" if device.transport == "local" else f"; 'edgekd doctor --device {request.device}' says what works there"
    return [
        *lines,
        Line("export", tuple(targets)),
        Line("devices", [request.device], f"where accuracy and latency of each file are measured{where}"),
        Line("profile", {"protocol": "quick"}, "minutes; 'full' for what a release is judged by"),
        Line(
            "gate", {"max_ap_drop": _MOST_AP_DROP},
            "AP that a file may lose against its student; add min_ap, min_gain, max_p90_ms once you know them",
        ),
    ]  # fmt: skip


def _looked_through(desk: RunDir, section: dict[str, Any], out: Path) -> tuple[DataSet, dict[str, Any], str]:
    """The data set, with the strictest treatment of faulty labels that lets it through, and why that."""
    first: InputError | None = None
    for treatment in _ON_PROBLEM if section["format"] != "digits" else ("error",):
        tried = {**section, "on_problem": treatment} if treatment != "error" else section
        content = {"name": "look", "data": tried, "student": {"model": "yolo11n"}}
        try:
            found = Context(bind_recipe(out, (), out.parent, content), desk).data
        except InputError as error:
            first = first or error
        else:
            return found, tried, f"{first.problems[0]}" if first else ""
    assert first is not None
    raise first


def _data(section: dict[str, Any], found: DataSet, problem: str) -> Iterator[Line]:
    shape = data.shape(found)
    test = found.splits.get("test")
    held = (
        f"and {len(test.images):,} test images"
        if test
        else "images; no test split: val chooses weights and judges them"
    )
    about = f"{len(found.class_names)} classes; {shape.train:,} train, {shape.val:,} val {held}"
    if section["format"] == "digits":
        yield Line("format", "digits", f"embedded; {about}")
        yield Line("imgsz", shape.long_side_px)
        return
    yield Line("format", section["format"], about)
    for key, value in section.items():
        if isinstance(value, dict):
            yield Line(key, tuple(Line(part, name) for part, name in value.items()))
        elif key not in ("format", "on_problem"):
            yield Line(key, value)
    if found.channels != 3 and section["format"] == "coco":
        yield Line("channels", found.channels)
    if problem:
        yield Line("on_problem", section["on_problem"], f"without it: {problem}")


def _teacher(request: InitRequest, found: DataSet, beside: Path) -> tuple[list[Line], Detector]:
    detector = models.open_teacher(request.teacher, request.teacher_model, found.class_names, found.channels)
    lines = [Line("model", request.teacher_model)] if request.teacher_model else []
    return [*lines, Line("weights", data.shown(request.teacher, beside))], detector


def _student(request: InitRequest, taken: from_yolo.Taken | None, teacher: Detector, beside: Path) -> list[Line]:
    folders = (beside, Path())
    if request.student and Path(request.student).suffix in WEIGHTS:
        return [Line("weights", data.shown(Path(request.student), beside), "as asked for")]
    own = None if request.student else from_yolo.student(taken.student if taken else None, folders)
    if own and "weights" in own:
        return [Line("weights", data.shown(Path(own["weights"]), beside), "as in the args.yaml")]
    model = request.student or (own["model"] if own else models.student_for(teacher))
    why = "as asked for" if request.student else "as in the args.yaml" if own else "small, and alike the teacher"
    ready = models.weights_beside(model, folders)
    if ready is not None:
        return [Line("model", model, why), Line("weights", data.shown(ready, beside), "lies ready")]
    return [Line("model", model, f"{why}; from random weights: no {model}.pt lies here")]


def _models(draft: list[Line], pair: RunDetectors) -> list[Line]:
    """The lines of teacher and student, now that both are known."""
    assert pair.teacher is not None
    known = [match for match in pair.classes if match.column is not None]
    unknown = [match.name for match in pair.classes if match.column is None]
    teacher = models.in_words(pair.teacher.spec, models.model_of(pair.teacher))
    taught = f"knows {len(known)} of {len(pair.classes)} classes" + (f", not {listed(unknown, 5)}" if unknown else "")
    smaller = pair.teacher.spec.parameters / pair.student.spec.parameters
    student = models.in_words(pair.student.spec, models.model_of(pair.student))
    return [
        Line("teacher", draft[2].value, f"{teacher}; {taught}"),
        Line("student", draft[3].value, f"{student}; the teacher has {smaller:.1f} times as many"),
    ]


def _about_data(found: DataSet) -> list[str]:
    told = notices(found.as_json())
    more = [f"data: and {len(told) - _MOST_NOTICES} more, see 'edgekd data'"] if len(told) > _MOST_NOTICES else []
    return [*(f"data: {sentence}" for sentence in told[:_MOST_NOTICES]), *more]


def _tried(desk: RunDir, content: dict[str, Any], out: Path) -> None:
    """What is written can be run: all that `edgekd check` looks at, but for devices elsewhere.

    Raises:
        InputError, EnvironmentFault: it cannot.
    """
    context = Context(bind_recipe(out, (), out.parent, content), desk)
    assert context.pair.teacher is not None
    check_budgets(context.bound, context.data.class_names)
    check_ready(context, to_the_end=False)


def _name(given: str) -> str:
    """After the data: its folder's name where the file's says nothing."""
    path = Path(given).resolve()
    if given == "digits":
        return "digits"
    plain = {"data", "train", "_annotations.coco", "annotations", "instances_train2017", "instances_train"}
    names = (path.stem, *(folder.name for folder in path.parents)) if not path.is_dir() else (path.name,)
    return next((name for name in names if name and name not in plain), "first")
