"""The recipe: envelopes only. What an envelope carries beyond its name is checked by the room that owns it.

`distill: [{method: cwd, tau: 2}]` knows `method` here and hands the rest to the method's own config type; data, targets
and devices likewise. `edgekd.stages.binding` binds them and reports all problems together.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgekd.errors import unknown
from edgekd.recipe.detectors import SEEDS, EnsembleRecipe, PathText, StudentRecipe, TeacherRecipe
from edgekd.recipe.place import EntryPlace
from edgekd.recipe.search import SearchRecipe
from edgekd.recipe.sections import MOST_ENTRIES, ProfileRecipe, ReportRecipe, Strict, ValidateRecipe

SCHEMA = "edgekd.recipe/1"

MOST_THREADS = 256
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_RESERVED = ("teacher", "student", "control", "ema")  # each means a model of every recipe


class Envelope(BaseModel):
    """A name and whatever belongs to it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def rest(self) -> dict[str, Any]:
        """Keys beside the name, as given."""
        return dict(self.model_extra or {})


class DataEnvelope(Envelope):
    """Where images and labels come from."""

    format: Literal["digits", "yolo", "coco"] = Field(description="digits (embedded), yolo (data.yaml) or coco (JSON)")


class DistillEnvelope(Envelope):
    """One distillation method with its parameters."""

    method: str = Field(description="name of a distiller, or of a preset; `edgekd methods` lists them")
    place: EntryPlace = None


class TargetEnvelope(Envelope):
    """One export target, with keys of its YAML overridden where wanted."""

    target: PathText = Field(description="file in export/ (or its name)")


class QuantizeRecipe(Strict):
    """How the weights of int8 targets come about: the student's as they are, or trained on to bear quantisation."""

    mode: Literal["ptq", "qat"] = Field(
        default="ptq", description="ptq: of the trained student; qat: it is trained on under fake quantisation before"
    )
    teacher: Literal["student", "teacher"] = Field(
        default="student", description="what teaches it: the float student, or the recipe's teacher"
    )
    distill: tuple[DistillEnvelope, ...] = Field(
        default=(DistillEnvelope(method="logit"),),
        max_length=MOST_ENTRIES,
        description="as the recipe's own distill; may be empty",
    )
    epochs: int = Field(default=3, ge=1, le=100_000)
    lr0: float = Field(default=0.00001, gt=0, le=100, description="of AdamW, unless train says otherwise")
    train: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the engine that differ from the recipe's train"
    )
    activations: Literal["asymmetric", "symmetric"] = Field(
        default="asymmetric", description="grid of the convolutions' inputs; symmetric has no zero point, for TensorRT"
    )
    predictions: Literal["int8", "float"] = Field(
        default="int8", description="float: the head's last convolutions are left out"
    )
    range_epochs: float = Field(
        default=1.0,
        gt=0,
        le=100_000,
        description="ranges of inputs follow the batches for so long, then they are frozen",
    )
    range_decay: float = Field(default=0.99, ge=0, lt=1, description="of the moving average of ranges")
    batch_norms: Literal["frozen", "moving"] = Field(
        default="frozen",
        description="frozen: they normalise as in inference; moving: by the batch, and learn its statistics",
    )

    @model_validator(mode="after")
    def _not_in_vain(self) -> QuantizeRecipe:
        defaults = {name: item.get_default(call_default_factory=True) for name, item in type(self).model_fields.items()}
        changed = [name for name, default in defaults.items() if getattr(self, name) != default]
        if self.mode == "ptq" and changed:
            raise ValueError(f"{', '.join(changed)}: only with mode: qat; set it, or leave them out")
        return self


class Recipe(Strict):
    """One run: what to distil, on what data, into what, measured where, judged how."""

    name: str = Field(pattern=_NAME, max_length=100)
    seed: int = Field(0, ge=0, lt=SEEDS)
    seeds: tuple[Annotated[int, Field(ge=0, lt=SEEDS)], ...] = Field(
        (), max_length=MOST_ENTRIES, description="several pairs of control and student instead of the one of 'seed'"
    )
    select: Literal["median", "best", "first"] = Field(
        "median", description="which of the seeds' students goes on: by its AP on val, or the first seed's"
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=MOST_THREADS,
        description="CPU threads; default, and most that training uses: all cores of the process",
    )
    data: DataEnvelope
    teacher: TeacherRecipe | None = None
    teachers: dict[str, TeacherRecipe] = Field(
        default_factory=dict, description="more teachers by name; a method names its own by 'teacher'"
    )
    ensembles: dict[str, EnsembleRecipe] = Field(
        default_factory=dict, description="several of these teachers as one, by a name that methods use as 'teacher'"
    )
    student: StudentRecipe
    distill: tuple[DistillEnvelope, ...] = Field((), max_length=MOST_ENTRIES)
    control: bool = Field(False, description="train the control: same student, seed and batches, no teacher")
    train: dict[str, Any] = Field(
        default_factory=dict, description="the engine's own arguments: epochs, imgsz, batch ..."
    )
    quantize: QuantizeRecipe = Field(default_factory=QuantizeRecipe)
    export: tuple[TargetEnvelope, ...] = Field((), max_length=MOST_ENTRIES)
    devices: tuple[PathText, ...] = Field((), max_length=MOST_ENTRIES)
    validate_: ValidateRecipe = Field(default_factory=ValidateRecipe, alias="validate")
    profile: ProfileRecipe = Field(default_factory=ProfileRecipe)
    gate: dict[str, Any] = Field(default_factory=dict, description="budgets; see docs/recipes.md")
    report: ReportRecipe = Field(default_factory=ReportRecipe)
    search: SearchRecipe = Field(default_factory=SearchRecipe)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`export: [onnx-fp32]` is short for `export: [{target: onnx-fp32}]`; likewise for `distill`."""
        return with_long_forms(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        self._check_seeds()
        self._check_teachers()
        if self.student.inherit and self.teacher is None:
            raise ValueError("'student.inherit' needs a 'teacher' to take weights from")
        if self.quantize.teacher == "teacher" and self.teacher is None:
            raise ValueError("'quantize.teacher: teacher' needs a 'teacher'")
        return self

    def _check_seeds(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: the same seed twice; leave one out")
        if self.seeds and self.seed != type(self).model_fields["seed"].default:
            raise ValueError(f"seed: {self.seed}: only without 'seeds'; add it to them, or leave one of the two out")
        if not self.seeds and self.select != type(self).model_fields["select"].default:
            raise ValueError(f"select: {self.select}: only with several 'seeds'; set them, or leave it out")

    def _check_teachers(self) -> None:
        allowed = "choose another one, of letters, digits, '.', '_' and '-'"
        names = [("teachers", name) for name in self.teachers] + [("ensembles", name) for name in self.ensembles]
        for key, name in names:
            if name in _RESERVED or not re.fullmatch(_NAME, name) or (key == "ensembles" and name in self.teachers):
                raise ValueError(f"{key}: '{name}' cannot be a name; {allowed}")
        for name, one in self.teachers.items():
            if one.knowledge != "online":
                raise ValueError(f"teachers.{name}.knowledge: is said once for all, under 'teacher'; leave it out here")
        if self.teacher and self.teacher.knowledge == "disk" and not self.distill:
            raise ValueError("teacher.knowledge: without 'distill' there is nothing to store; leave it out")
        single = [*(["teacher"] if self.teacher else []), *self.teachers]
        for name, ensemble in self.ensembles.items():
            for member in ensemble.of:
                if member not in single:
                    raise ValueError(f"ensembles.{name}.of: {unknown('teacher', member, single)}")
        known = [*single, *self.ensembles, "ema"]
        for index, entry in enumerate(self.distill):
            asked = entry.rest.get("teacher", "teacher")
            if asked == "teacher" and self.teacher is None:
                named = f", or name one of {', '.join(known)} under distill[{index}].teacher" if self.teachers else ""
                raise ValueError(f"'distill' needs a 'teacher'{named}")
            if asked not in known:
                raise ValueError(f"distill[{index}].teacher: {unknown('teacher', str(asked), known)}")
        if any(entry.rest.get("teacher", "teacher") != "teacher" for entry in self.quantize.distill):
            raise ValueError("quantize.distill: 'quantize.teacher' says who teaches; leave 'teacher' out there")

    @property
    def imgsz_px(self) -> int:
        """Training and default export size."""
        return int(self.train.get("imgsz", 640))


def with_long_forms(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe's content with every short form written out; anything else, faulty or not, is left as it is."""
    names = {"export": "target", "distill": "method"}
    long: dict[str, Any] = {
        key: [{name: item} if isinstance(item, str) else item for item in content[key]]
        for key, name in names.items()
        if isinstance(content.get(key), (list, tuple))
    }
    data = content.get("data")
    if isinstance(data, dict) and isinstance(data.get("unlabelled"), str):
        long["data"] = {**data, "unlabelled": {"images": data["unlabelled"]}}
    if isinstance(content.get("quantize"), dict):
        long["quantize"] = with_long_forms(content["quantize"])
    return {**content, **long}
